"""The simulated chain: what it accepts, how it reorganises, what it remembers."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memepool_chain.address import address_of, p2pkh_script, script_hash
from memepool_chain.hashing import hash160
from memepool_chain.header import meets_target
from memepool_chain.keys import PrivateKey
from memepool_chain.merkle import merkle_root, root_from_tsc
from memepool_chain.network import REGTEST
from memepool_chain.signing import Coin, build_payment, sign_p2pkh
from memepool_chain.tx import Tx, TxIn, TxOut
from memepool_sandbox.chain.faucet import FUND_SATS_MAX, FaucetError
from memepool_sandbox.chain.journal import Journal, JournalError
from memepool_sandbox.chain.node import PREMINE_BLOCKS, Node, ReorgError
from memepool_sandbox.chain.rules import Policy, RefusedError
from memepool_sandbox.chain.view import Outpoint

KEY = PrivateKey.from_bytes(b"\x07" * 32)
SCRIPT = p2pkh_script(hash160(KEY.public_key))
ADDRESS = address_of(KEY.public_key, REGTEST)
ELSEWHERE = p2pkh_script(b"\x01" * 20)


def funded(node: Node, amount_sats: int = 100_000) -> Coin:
    """A coin of KEY's, still in the mempool."""
    txid = node.fund(ADDRESS, amount_sats)
    return Coin(txid, 0, amount_sats, SCRIPT)


def payment(coin: Coin, amount_sats: int = 10_000, script: bytes = ELSEWHERE) -> Tx:
    return build_payment([coin], [TxOut(amount_sats, script)], SCRIPT, 100, {SCRIPT: KEY})


def height_of(node: Node, txid: str) -> int | None:
    known = node.view.known(txid)
    assert known is not None
    return known.height


def test_a_new_chain_has_real_blocks_and_money_to_give(node: Node) -> None:
    tip = node.branches.tip
    assert tip.height == PREMINE_BLOCKS
    for height in range(1, tip.height + 1):
        block = node.branches.at(height).block
        assert meets_target(block.header)
        assert block.header.prev_hash == node.branches.at(height - 1).block.hash
        assert block.header.merkle_root == merkle_root(block.txids)
        parent = node.branches.at(height - 1)
        assert block.header.time > node.branches.median_time_s(parent)
    txid = node.fund(ADDRESS, FUND_SATS_MAX)
    assert node.view.output(Outpoint(txid, 0)) == TxOut(FUND_SATS_MAX, SCRIPT)


def test_the_genesis_transaction_is_the_one_of_the_genesis_header(node: Node) -> None:
    genesis = node.branches.at(0).block
    assert genesis.header.serialize() == REGTEST.genesis_header
    assert merkle_root(genesis.txids) == genesis.header.merkle_root


def test_a_payment_is_mined_and_proven(node: Node) -> None:
    coin = funded(node)
    txid = node.submit(payment(coin).serialize())
    assert node.proof(txid) is None
    (block_hash,) = node.mine()
    proof = node.proof(txid)
    assert proof is not None
    entry, index, nodes = proof
    assert entry.block.hash == block_hash
    assert index == 2  # behind the coinbase and its parent
    assert root_from_tsc(txid, index, nodes) == entry.block.header.merkle_root
    reward = entry.block.txs[0].outputs[0].satoshis
    fees = sum(node.view.fee_sats(tx) for tx in entry.block.txs[1:])
    assert fees > 0
    assert reward == 50 * 10**8 + fees


def _bad_signature(tx: Tx) -> Tx:
    script = bytearray(tx.inputs[0].script)
    script[20] ^= 1
    return replace(tx, inputs=(replace(tx.inputs[0], script=bytes(script)),))


def _no_signature(tx: Tx) -> Tx:
    return replace(tx, inputs=(replace(tx.inputs[0], script=b""),))


def _unlocked_by_opcodes(tx: Tx) -> Tx:
    return replace(tx, inputs=(replace(tx.inputs[0], script=b"\x51\x76\xff"),))


def _truncated_push(tx: Tx) -> Tx:
    return replace(tx, inputs=(replace(tx.inputs[0], script=b"\x4c\xff\x00"),))


def _resigned(coin: Coin, outputs: tuple[TxOut, ...]) -> Tx:
    return sign_p2pkh(
        Tx(1, (TxIn(coin.txid, coin.vout),), outputs), 0, KEY, coin.script, coin.satoshis
    )


@pytest.mark.parametrize(
    "spoil", [_bad_signature, _no_signature, _unlocked_by_opcodes, _truncated_push]
)
def test_scripts_that_do_not_hold_are_refused(node: Node, spoil: Callable[[Tx], Tx]) -> None:
    tx = spoil(payment(funded(node)))
    with pytest.raises(RefusedError, match="16: mandatory-script-verify-flag-failed"):
        node.submit(tx.serialize())
    assert node.view.known(tx.txid) is None


def test_somebody_elses_coin_is_refused(node: Node) -> None:
    coin = funded(node)
    thief = PrivateKey.from_bytes(b"\x08" * 32)
    own = p2pkh_script(hash160(thief.public_key))
    tx = sign_p2pkh(
        Tx(1, (TxIn(coin.txid, 0),), (TxOut(90_000, own),)), 0, thief, own, coin.satoshis
    )
    with pytest.raises(RefusedError, match="mandatory-script-verify-flag-failed"):
        node.submit(tx.serialize())


def test_amounts_fees_and_dust_are_checked(node: Node) -> None:
    coin = funded(node)
    for sats, message in ((100_001, "in-belowout"), (99_999, "min fee not met"), (0, "dust")):
        with pytest.raises(RefusedError, match=message):
            node.submit(_resigned(coin, (TxOut(sats, ELSEWHERE),)).serialize())
    data = TxOut(0, b"\x00\x6a\x08memepool")
    assert node.submit(_resigned(coin, (TxOut(90_000, ELSEWHERE), data)).serialize())
    rich = funded(node, 20_000_000)
    with pytest.raises(RefusedError, match="256: absurdly-high-fee"):
        node.submit(_resigned(rich, (TxOut(1, ELSEWHERE),)).serialize())


def test_conflicts_and_repeats_get_the_nodes_own_words(node: Node) -> None:
    coin = funded(node)
    first, second = payment(coin, 10_000), payment(coin, 20_000)
    node.submit(first.serialize())
    with pytest.raises(RefusedError, match="Transaction already in the mempool"):
        node.submit(first.serialize())
    with pytest.raises(RefusedError, match="258: txn-mempool-conflict"):
        node.submit(second.serialize())
    node.mine()
    with pytest.raises(RefusedError, match="257: txn-already-known"):
        node.submit(first.serialize())
    with pytest.raises(RefusedError, match="Missing inputs"):
        node.submit(second.serialize())
    change = Coin(first.txid, 1, first.outputs[1].satoshis, SCRIPT)
    unknown = replace(change, txid="ab" * 32)
    with pytest.raises(RefusedError, match="Missing inputs"):
        node.submit(payment(unknown).serialize())


def test_a_transaction_whose_outputs_are_all_spent_looks_unknown(node: Node) -> None:
    coin = funded(node)
    first = _resigned(coin, (TxOut(99_000, SCRIPT),))
    node.submit(first.serialize())
    node.submit(
        _resigned(Coin(first.txid, 0, 99_000, SCRIPT), (TxOut(98_000, SCRIPT),)).serialize()
    )
    node.mine()
    with pytest.raises(RefusedError, match="Missing inputs"):
        node.submit(first.serialize())


def test_a_future_locktime_and_young_coinbases_wait(node: Node) -> None:
    coin = funded(node)
    tx = Tx(
        1, (TxIn(coin.txid, 0, b"", 0),), (TxOut(90_000, SCRIPT),), node.branches.tip.height + 9
    )
    with pytest.raises(RefusedError, match="non-final"):
        node.submit(sign_p2pkh(tx, 0, KEY, SCRIPT, coin.satoshis).serialize())
    young = node.branches.tip.block.txs[0]
    spend = Tx(1, (TxIn(young.txid, 0, b"\x51"),), (TxOut(1, SCRIPT),))
    with pytest.raises(RefusedError, match="premature-spend-of-coinbase"):
        node.submit(spend.serialize())
    with pytest.raises(RefusedError, match="bad-tx-coinbase"):
        node.submit(young.serialize())


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_hostile_bytes_are_refused_and_change_nothing(node: Node, data: st.DataObject) -> None:
    coin = Coin(node.branches.at(1).block.txs[0].txid, 0, 50 * 10**8, SCRIPT)
    raw = bytearray(payment(coin).serialize())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(raw)))
    before = node.view.unconfirmed_count
    with pytest.raises(RefusedError):
        node.submit(bytes(raw[:cut]))
    assert node.view.unconfirmed_count == before


def test_oversized_and_full(tmp_path: Path) -> None:
    policy = Policy(size_bytes_max=400, mempool_txs_max=1)
    node = Node.open(tmp_path / "chain", policy=policy)
    with pytest.raises(RefusedError, match="64: tx-size"):
        node.submit(bytes(401))
    funded(node)
    with pytest.raises(RefusedError, match="259: mempool full"):
        funded(node)
    node.close()


def test_a_reorg_brings_transactions_back_to_the_mempool(node: Node) -> None:
    node.mine()
    coin = funded(node)
    txid = node.submit(payment(coin).serialize())
    old = node.mine(2)
    new = node.reorg(2)
    assert len(new) == 3
    assert node.branches.tip.block.hash == new[-1]
    assert not node.branches.is_active(node.branches.entry(old[0]))
    assert [leaf.block.hash for leaf in node.branches.leaves()] == [new[-1], old[-1]]
    assert [tx.txid for tx in node.view.unconfirmed()] == [coin.txid, txid]
    assert node.proof(txid) is None
    node.mine()
    assert node.proof(txid) is not None


def test_a_reorg_can_lose_transactions_and_their_descendants(node: Node) -> None:
    coin = funded(node)
    node.mine()
    child = node.submit(payment(coin).serialize())
    node.reorg(1, keep_transactions=False)
    assert node.view.known(coin.txid) is None
    assert node.view.known(child) is None
    assert node.view.unconfirmed() == []
    assert funded(node).satoshis == 100_000  # its coins are the faucet's again


def test_reorgs_have_a_limit(node: Node) -> None:
    node.mine()
    for depth in (0, -1, 2, 100):
        with pytest.raises(ReorgError):
            node.reorg(depth)
    with pytest.raises(ValueError, match="between 1 and"):
        node.mine(0)


def test_an_unconfirmed_transaction_is_double_spent(node: Node) -> None:
    coin = funded(node)
    child = node.submit(payment(coin).serialize())
    rival = node.double_spend(coin.txid)
    assert node.view.known(coin.txid) is None
    assert node.view.known(child) is None
    assert height_of(node, rival) is None
    node.mine()
    assert height_of(node, rival) == node.branches.tip.height
    with pytest.raises(RefusedError, match="Missing inputs"):
        node.submit(payment(coin).serialize())


def test_a_mined_transaction_is_double_spent_by_a_longer_branch(node: Node) -> None:
    coins = [funded(node) for _ in range(15)]  # more than mature coins: change is spent unconfirmed
    node.mine(3)
    rival = node.double_spend(coins[-1].txid)
    assert node.branches.tip.height == PREMINE_BLOCKS + 4
    assert height_of(node, rival) == PREMINE_BLOCKS + 1
    assert node.view.known(coins[-1].txid) is None
    for coin in coins[:10]:
        assert node.view.known(coin.txid) is not None
    node.mine()
    assert node.view.unconfirmed() == []


def test_only_the_faucets_transactions_can_be_double_spent(node: Node) -> None:
    tx = payment(funded(node))
    node.submit(tx.serialize())
    for txid, code in ((tx.txid, "not_ours"), ("ab" * 32, "unknown_transaction")):
        with pytest.raises(FaucetError) as caught:
            node.double_spend(txid)
        assert caught.value.code == code


def test_the_faucet_gives_again_and_again_without_a_block(node: Node) -> None:
    txids = {node.fund(ADDRESS, 1_000 + n) for n in range(1_500)}  # deeper than Python's recursion
    assert len(txids) == 1_500
    node.mine()
    assert node.view.unconfirmed_count == 0
    node.reorg(1, keep_transactions=False)
    assert node.view.touching(script_hash(SCRIPT)) == []


def state(node: Node) -> object:
    return (
        [node.branches.at(height).block.hash for height in range(node.branches.tip.height + 1)],
        [leaf.block.hash for leaf in node.branches.leaves()],
        [tx.txid for tx in node.view.unconfirmed()],
        sorted(node.view.coins(script_hash(SCRIPT))),
    )


def test_a_restart_goes_on_with_the_same_chain(tmp_path: Path) -> None:
    path = tmp_path / "chain"
    node = Node.open(path)
    coin = funded(node)
    node.mine(2)
    node.submit(payment(coin).serialize())
    node.double_spend(node.fund(ADDRESS, 5_000))
    node.reorg(2)
    funded(node)
    node.mine()
    node.reorg(1, keep_transactions=False)
    before = state(node)
    node.close()
    again = Node.open(path)
    assert state(again) == before
    assert funded(again).satoshis == 100_000
    again.close()


def test_every_torn_end_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "chain"
    node = Node.open(path)
    funded(node)
    before, whole = state(node), path.stat().st_size
    node.mine()
    node.close()
    data = path.read_bytes()
    for length in (whole + 1, whole + 9, whole + 40, len(data) - 1):
        path.write_bytes(data[:length])
        torn = Node.open(path)
        assert state(torn) == before
        torn.mine()
        after = state(torn)
        torn.close()
        healed = Node.open(path)
        assert state(healed) == after
        healed.close()


def test_damage_inside_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "chain"
    Node.open(path).close()
    data = bytearray(path.read_bytes())
    for at in (20, 100, 0x03):  # the key, a block, a length
        damaged = bytearray(data)
        damaged[at] ^= 0xFF
        path.write_bytes(damaged)
        with pytest.raises(JournalError):
            Node.open(path)


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with Journal(tmp_path / "chain"), pytest.raises(JournalError, match="in use"):
        Journal(tmp_path / "chain")
    assert (tmp_path / "chain").stat().st_mode & 0o777 == 0o600


def test_a_file_that_is_no_chain_is_refused(tmp_path: Path) -> None:
    with Journal(tmp_path / "chain") as journal:
        list(journal.records())
        journal.append((99, b"hello"))
    with pytest.raises(JournalError, match="faucet's key"):
        Node.open(tmp_path / "chain")
