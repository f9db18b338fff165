"""Deposits: found by their address, proven against our own headers, taken back by a reorganisation.

Network calls happen outside transactions; what they brought is checked again inside.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import structlog

from memepool_chain import headerstore
from memepool_chain.address import address_of, decode_p2pkh, p2pkh_script
from memepool_chain.bip32 import ExtendedPublicKey
from memepool_chain.merkle import MerkleError, root_from_tsc
from memepool_chain.network import Network, network_named
from memepool_chain.tx import TxError, parse_tx
from memepool_common import audit
from memepool_common.db import Database, Session
from memepool_common.events import outbox
from memepool_payments import events
from memepool_payments.adapters.chain_source import ChainSource, NotFound, Proof, Unspent
from memepool_payments.domain.journal import POSTED, Movement, NewJournal, moving, request_hash
from memepool_payments.settings import ChainSettings
from memepool_payments.store import deposits, ledger
from memepool_payments.store.deposits import Address, Deposit, Outpoint

ADDRESSES_PER_CALL = 20
PROOFS_PER_TURN = 50
log = structlog.get_logger(__name__)


class DepositKeys:
    """The public half of the deposit keys."""

    def __init__(self, settings: ChainSettings) -> None:
        self.network = network_named(settings.network)
        self._external = ExtendedPublicKey.parse(settings.deposit_xpub, self.network).child(0)

    def address(self, index: int) -> str:
        """The address of child 0/index."""
        return address_of(self._external.child(index).public_key, self.network)


async def address_for(
    session: Session, keys: DepositKeys, user_id: UUID, *, watch: timedelta
) -> str:
    """The user's own deposit address, watched for a while."""
    found = await deposits.watch(session, user_id, datetime.now(UTC) + watch)
    if found.address is not None:
        return found.address
    address = keys.address(found.key_index)
    await deposits.name_address(session, user_id, address)
    return address


async def scan(
    database: Database, source: ChainSource, settings: ChainSettings, *, amount_min: int
) -> None:
    """Ask the source about every address whose turn it is; new outpoints become deposits."""
    started = datetime.now(UTC)
    while True:
        async with database.read() as session:
            due = await deposits.due_addresses(
                session,
                scan_before=started - timedelta(seconds=settings.scan_interval_s),
                sweep_before=started - timedelta(seconds=settings.sweep_interval_s),
                limit=ADDRESSES_PER_CALL,
            )
        if not due:
            return
        async with database.transaction() as session:  # first: a bad answer must not hold up others
            await deposits.checked(session, [each.user_id for each in due])
        by_address = {each.address: each for each in due if each.address is not None}
        coins = await source.unspent_all(list(by_address))
        await _miss(database, source, [each.user_id for each in by_address.values()], coins)
        network = network_named(settings.network)
        watch_until = started + timedelta(seconds=settings.watch_s)
        await _take(database, source, network, by_address, coins, amount_min, watch_until)


async def _miss(
    database: Database,
    source: ChainSource,
    users: Sequence[UUID],
    coins: dict[str, list[Unspent]],
) -> None:
    """Note which pending outputs are gone: replaced, or dropped with the block they were in.

    One answer without an output may be a hiccup, and one who still has the transaction lists it
    again: lost is what several looks have missed and the source does not know any more.
    """
    shown = _outpoints(coins)
    async with database.read() as session:
        absent = await deposits.absent(session, users, shown)
    for txid, before in absent.items():
        missed = before + 1
        if missed == deposits.LOST_AFTER:
            try:
                await source.raw_tx(txid)
                missed = before
            except NotFound:
                log.warning("deposit_lost", txid=txid)
        async with database.transaction() as session:
            await deposits.miss(session, txid, users, shown, missed)


def _outpoints(coins: dict[str, list[Unspent]]) -> list[Outpoint]:
    return [(coin.txid, coin.vout) for found in coins.values() for coin in found]


async def _take(
    database: Database,
    source: ChainSource,
    network: Network,
    by_address: dict[str, Address],
    coins: dict[str, list[Unspent]],
    amount_min: int,
    watch_until: datetime,
) -> None:
    async with database.transaction() as session:
        known = await deposits.known(session, _outpoints(coins))
    for address, found in coins.items():
        script = p2pkh_script(decode_p2pkh(address, network))
        for coin in found:
            if (coin.txid, coin.vout) in known or coin.satoshis < amount_min:
                continue
            amount = paid_to(script, coin.vout, await source.raw_tx(coin.txid))
            if amount is None or amount < amount_min:
                log.warning("deposit_not_taken", txid=coin.txid, vout=coin.vout, amount=amount)
                continue
            payee = by_address[address]
            async with database.transaction() as session:
                await deposits.add(session, payee, coin.txid, coin.vout, amount)
                await deposits.watch(session, payee.user_id, watch_until)


def paid_to(script: bytes, vout: int, raw: bytes) -> int | None:
    """The satoshis that this output pays to the script; None if it does not."""
    try:
        outputs = parse_tx(raw).outputs
    except TxError:
        return None
    if vout >= len(outputs) or outputs[vout].script != script:
        return None
    return outputs[vout].satoshis


async def prove(database: Database, source: ChainSource, settings: ChainSettings) -> None:
    """Ask for the proofs of deposits that wait for one; credit, move or take back accordingly."""
    now = datetime.now(UTC)
    async with database.read() as session:
        due = await deposits.due_proofs(
            session,
            before=now - timedelta(seconds=settings.scan_interval_s),
            sweep_before=now - timedelta(seconds=settings.sweep_interval_s),
            limit=PROOFS_PER_TURN,
        )
    for txid in due:
        async with database.transaction() as session:  # first: a bad answer must not hold up others
            await deposits.proof_asked(session, txid)
        proof = await source.tsc_proof(txid)
        async with database.transaction() as session:
            if proof is None:
                await take_back(session, txid)
            else:
                await credit(session, txid, proof, settings.credit_confirmations)


async def credit(session: Session, txid: str, proof: Proof, confirmations: int) -> None:
    """Credit a transaction's deposits if the proof leads to a block of our own active chain."""
    tip_height = await deposits.lock_tip(session)
    block = await headerstore.header(session, proof.block_hash)
    if block is None or block.state != "active" or block.height is None:
        return  # not in the chain that we know: wait for headers
    if tip_height - block.height + 1 < confirmations:
        return
    try:
        root = root_from_tsc(txid, proof.index, proof.nodes)
    except MerkleError as error:
        log.warning("proof_refused", txid=txid, reason=str(error))
        return
    if root != block.header.merkle_root:
        log.warning("proof_refused", txid=txid, reason="it leads to another root")
        return
    found = await deposits.lock(session, txid)
    await _lock_owners(session, found)
    for deposit in found:
        if deposit.state == "credited":
            continue
        settled = deposit._replace(
            state="credited", block_hash=block.hash, block_height=block.height
        )
        if deposit.state == "pending":
            settled = settled._replace(generation=deposit.generation + 1)
            await _post_credit(session, settled)
        await deposits.settle(session, settled)


async def take_back(session: Session, txid: str) -> None:
    """Reverse what was credited in a block that left the chain, now that no block has it."""
    found = [each for each in await deposits.lock(session, txid) if each.state == "disconnected"]
    owners = sorted({deposit.user_id for deposit in found})
    await ledger.open_accounts(session, owners, ledger.RECEIVABLE)
    await _lock_owners(session, found)
    for deposit in found:
        await _post_reversal(session, deposit)
        await deposits.settle(
            session, deposit._replace(state="pending", block_hash=None, block_height=None)
        )


async def _lock_owners(session: Session, found: Sequence[Deposit]) -> None:
    """Lock all that the transaction's deposits touch at once: one transaction may pay many."""
    owners = sorted({deposit.user_id for deposit in found})
    available = await ledger.accounts_of(session, owners)
    receivable = await ledger.accounts_of(session, owners, ledger.RECEIVABLE)
    await ledger.lock_balances(session, [*available.values(), *receivable.values()])


async def _post_credit(session: Session, deposit: Deposit) -> None:
    """What the user owes from an earlier reversal is paid first; the rest is available."""
    user = deposit.user_id
    available = (await ledger.accounts_of(session, [user]))[user]
    assets = await ledger.platform_account(session, ledger.CHAIN_ASSETS)
    receivable = (await ledger.accounts_of(session, [user], ledger.RECEIVABLE)).get(user)
    movements = moving(Movement(assets, available, deposit.amount))
    if receivable is not None:
        balances = await ledger.lock_balances(session, [available, receivable])
        repaid = min(-balances[receivable], deposit.amount)
        movements = moving(
            Movement(assets, available, deposit.amount - repaid),
            Movement(assets, receivable, repaid),
        )
    key = f"deposit:{deposit.id}:{deposit.generation}"
    await _post(session, deposit, "deposit", key, movements, events.DEPOSIT_CREDITED)


async def _post_reversal(session: Session, deposit: Deposit) -> None:
    """Take it from the available balance; what is already gone becomes the user's debt."""
    user = deposit.user_id
    available = (await ledger.accounts_of(session, [user]))[user]
    receivable = (await ledger.accounts_of(session, [user], ledger.RECEIVABLE))[user]
    assets = await ledger.platform_account(session, ledger.CHAIN_ASSETS)
    balances = await ledger.lock_balances(session, [available, receivable])
    taken = min(balances[available], deposit.amount)
    movements = moving(
        Movement(available, assets, taken), Movement(receivable, assets, deposit.amount - taken)
    )
    key = f"deposit:{deposit.id}:reverse:{deposit.generation}"
    await _post(session, deposit, "deposit_reversal", key, movements, events.DEPOSIT_REVERSED)


async def _post(
    session: Session,
    deposit: Deposit,
    kind: str,
    key: str,
    movements: Sequence[Movement],
    event_type: str,
) -> None:
    credited = kind == "deposit"
    journal = NewJournal(
        scope="deposit",
        key=key,
        request_hash=request_hash(deposit.user_id, deposit.amount),
        kind=kind,
        movements=movements,
        sender_id=None if credited else deposit.user_id,
        recipient_id=deposit.user_id if credited else None,
        txid=deposit.txid,
    )
    (posting,) = await ledger.post(session, [journal])
    if posting.outcome != POSTED or posting.replayed:
        raise AssertionError("a generation is credited once and reversed once")
    data = events.DepositData(
        deposit_id=deposit.id,
        user_id=deposit.user_id,
        txid=deposit.txid,
        vout=deposit.vout,
        amount=deposit.amount,
        generation=deposit.generation,
        block_height=deposit.block_height,
        block_hash=deposit.block_hash,
    )
    await outbox.append(session, [events.about_user(event_type, deposit.id, data, deposit.user_id)])
    await audit.record(
        session,
        actor_id=None,
        account_id=deposit.user_id,
        action=f"payments.deposit.{'credited' if credited else 'reversed'}",
        subject=deposit.id,
        details={"amount": deposit.amount, "generation": deposit.generation},
    )
