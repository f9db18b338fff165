"""Signatures: the node's own digests, the judge's script engine, and a payment's arithmetic."""

from dataclasses import replace

import pytest
from bsv import P2PKH, Transaction
from bsv.script.spend import Spend
from hypothesis import given
from hypothesis import strategies as st

from memepool_chain.address import p2pkh_script
from memepool_chain.hashing import display_hex, hash160, sha256
from memepool_chain.keys import PrivateKey
from memepool_chain.signing import (
    Coin,
    PaymentError,
    build_payment,
    sighash_forkid,
    sign_p2pkh,
)
from memepool_chain.tx import Tx, TxIn, TxOut, parse_tx

KEY = PrivateKey.from_bytes(sha256(b"coins"))
SCRIPT = p2pkh_script(hash160(KEY.public_key))
OTHER_KEY = PrivateKey.from_bytes(sha256(b"other coins"))
OTHER_SCRIPT = p2pkh_script(hash160(OTHER_KEY.public_key))
KEYS = {SCRIPT: KEY, OTHER_SCRIPT: OTHER_KEY}

# Rows of the node's sighash.json that have FORKID: transaction, script, input, type, digest.
# The amount is 0 in all of them. Between them: ALL, NONE, SINGLE in and out of range,
# ANYONECANPAY.
SIGHASHES = [
    (
        (
            "614426db020eadf5ee15ec0f772864174882f7e08038672af01d882cd77f3776ca2f2dd32800000000076300"
            "536565ac00ffffffffd5ca1a83d4367ef090140d6f7a77434f63a476b82688e3056865096447098bec030000"
            "0004006551acffffffff0206a04a000000000007636a0000ab51ab417c52010000000002ab6a00000000"
        ),
        "",
        0,
        -1252879549,
        "e285e042e8699b81f24abf49621d1e3b968245b38d48d91a13f20d30c030b5dd",
    ),
    (
        (
            "e81753a101817f55a2cbb74aa4528685f4f541818723c2613b4f1ca43df98c0bdc30840ab403000000026363"
            "ffffffff01878c26000000000008ab006a6a535300529865be87"
        ),
        "acac6a52",
        0,
        749340108,
        "5b8429cce72984022cfa0f49a2ba05f83dcb0e84c801f6bd566981ff1b4f292b",
    ),
    (
        (
            "44484b180183a894f0b61424d2c5e7b405ca9d1c1b47e66378c7f16af9e06cb2e45dcf3d8701000000076300"
            "6a65656351ffffffff01d363fd0100000000096500ab5152636553ab00000000"
        ),
        "ab",
        0,
        1640290243,
        "ec593466442cdca2ed0693660be8464e5bf90b053fcab1bebe46cf70f1084556",
    ),
    (
        (
            "efd8194202da2f872de204c426ec04d7fa2f7047488b9e19313c41d39aa84736950880ca8602000000040051"
            "abab0c2229dbbe3a115c555ea5bd70b40f750c60b28840747451fe2f42343f976d090335b7b60200000003ab"
            "5200ffffffff03139b520200000000065365acac5152b95180010000000000014ba103000000000000000000"
        ),
        "",
        0,
        -1131921328,
        "2f04b1e958fee6de97174a5e9a1094e8f056e00398e9b42f3cd4c66ca260b9b6",
    ),
    (
        (
            "0122769903cfc6fedb9c63fe76930fed0c87b44be46f5032a534fa05861548616a5b99034701000000040063"
            "656ac864c70228b3f6ebaf97be065b2180ece52fae4f9039c7bf932e567625d7d89582abe1340100000008ac"
            "6363650063ab65ffffffff587125b913706705dc799454ab0343ee8aa59a2f2d538f75e12c0deeb40aa74103"
            "0000000027b3a02003d21f34040000000000fa7f2c0300000000016387213b0300000000056aabacabac0000"
            "0000"
        ),
        "",
        1,
        902085315,
        "61306cf6925de09aba87ddb53cca9bbd49c852e9b9990c00f32e2d2e1d4c9ba6",
    ),
    (
        (
            "7e8c3f7902634018b6e1db2ca591816dff64a6cff74643de7455323ebfc560500aad9eee8c0100000001519c"
            "2d146d06fdca2c2e5fa3a2559812df66b6b5e40a3c57b2f7071ae6fe3863c74ab0952d0100000001000bf663"
            "8c013c5f6503000000000351ac63cbbf66be"
        ),
        "acab",
        0,
        -1861635514,
        "0abe05b7835921958100225897ce76ca6e6a3ffc7a27235fe71c1252d7465890",
    ),
]


@pytest.mark.parametrize(("raw", "script", "index", "sighash_type", "digest"), SIGHASHES)
def test_the_nodes_own_digests(
    raw: str, script: str, index: int, sighash_type: int, digest: str
) -> None:
    tx = parse_tx(bytes.fromhex(raw))
    ours = sighash_forkid(tx, index, bytes.fromhex(script), 0, sighash_type & 0xFFFF_FFFF)
    assert display_hex(ours) == digest


@pytest.mark.parametrize("sighash_type", [0x00, 0x01, 0x83, 0x21, 0x61, 0xE1])
def test_types_that_stand_for_the_older_digest_are_refused(sighash_type: int) -> None:
    tx = Tx(1, (TxIn("11" * 32, 0),), (TxOut(1, SCRIPT),))
    with pytest.raises(ValueError, match="FORKID"):
        sighash_forkid(tx, 0, SCRIPT, 1, sighash_type)


def assert_judge_accepts(tx: Tx, coins: list[Coin]) -> None:
    """Run each input's scripts in the SDK's engine against the coin it spends."""
    judged = Transaction.from_hex(tx.serialize())
    assert judged is not None
    for index, coin in enumerate(coins):
        others = [each for at, each in enumerate(judged.inputs) if at != index]
        spend = Spend(
            {
                "sourceTXID": coin.txid,
                "sourceOutputIndex": coin.vout,
                "sourceSatoshis": coin.satoshis,
                "lockingScript": P2PKH().lock(coin.script[3:23]),
                "transactionVersion": judged.version,
                "otherInputs": others,
                "inputIndex": index,
                "unlockingScript": judged.inputs[index].unlocking_script,
                "outputs": judged.outputs,
                "inputSequence": judged.inputs[index].sequence,
                "lockTime": judged.locktime,
            }
        )
        assert spend.validate()


COINS = st.lists(
    st.builds(
        Coin,
        st.binary(min_size=32, max_size=32).filter(any).map(bytes.hex),
        st.integers(0, 5),
        st.integers(2_000, 10**12),
        st.sampled_from([SCRIPT, OTHER_SCRIPT]),
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda coin: coin.txid,
)


@given(COINS, st.lists(st.integers(1, 100), min_size=1, max_size=3), st.integers(1, 1_000))
def test_a_payment_adds_up_and_the_judge_accepts_it(
    coins: list[Coin], amounts: list[int], rate: int
) -> None:
    outputs = [TxOut(amount, OTHER_SCRIPT) for amount in amounts]
    outputs.append(TxOut(0, b"\x00\x6a\x04meme"))
    tx = build_payment(coins, outputs, SCRIPT, rate, KEYS)
    size = len(tx.serialize())
    fee = sum(coin.satoshis for coin in coins) - sum(tx_out.satoshis for tx_out in tx.outputs)
    assert tx.outputs[: len(outputs)] == tuple(outputs)
    assert fee * 1_000 >= size * rate
    change_output_size = 34
    if len(tx.outputs) > len(outputs):
        assert fee <= -(-(size + 2 * len(coins)) * rate // 1_000)
    else:
        assert fee <= -(-(size + 2 * len(coins) + change_output_size) * rate // 1_000)
    assert_judge_accepts(tx, coins)


def test_an_input_signed_alone() -> None:
    coin = Coin("22" * 32, 1, 5_000, SCRIPT)
    tx = Tx(1, (TxIn(coin.txid, coin.vout),), (TxOut(4_000, OTHER_SCRIPT),))
    signed = sign_p2pkh(tx, 0, KEY, coin.script, coin.satoshis)
    assert_judge_accepts(signed, [coin])
    with pytest.raises(PaymentError, match="does not unlock"):
        sign_p2pkh(tx, 0, OTHER_KEY, coin.script, coin.satoshis)


@pytest.mark.parametrize("change", ["amount", "output", "sequence"])
def test_the_judge_refuses_what_was_changed_after_signing(change: str) -> None:
    coin = Coin("22" * 32, 1, 5_000, SCRIPT)
    tx = build_payment([coin], [TxOut(1_000, OTHER_SCRIPT)], SCRIPT, 100, KEYS)
    if change == "amount":
        coin = replace(coin, satoshis=5_001)
    elif change == "output":
        tx = replace(tx, outputs=(TxOut(1_001, OTHER_SCRIPT), *tx.outputs[1:]))
    else:
        tx = replace(tx, inputs=(replace(tx.inputs[0], sequence=0),))
    with pytest.raises(RuntimeError):
        assert_judge_accepts(tx, [coin])


def test_a_typical_payment_at_the_usual_rate() -> None:
    coin = Coin("22" * 32, 0, 100_000, SCRIPT)
    tx = build_payment([coin], [TxOut(40_000, OTHER_SCRIPT)], SCRIPT, 100, KEYS)
    assert [tx_out.satoshis for tx_out in tx.outputs] == [40_000, 59_977]  # 226 bytes at most: 23
    assert tx.version == 1


def test_a_rest_that_would_not_pay_for_itself_goes_to_the_fee() -> None:
    coin = Coin("22" * 32, 0, 1_020, SCRIPT)
    tx = build_payment([coin], [TxOut(1_000, OTHER_SCRIPT)], SCRIPT, 100, KEYS)
    assert [tx_out.satoshis for tx_out in tx.outputs] == [1_000]


GOOD_COIN = Coin("22" * 32, 0, 10_000, SCRIPT)


@pytest.mark.parametrize(
    ("coins", "satoshis", "rate", "code"),
    [
        ([], 1, 100, "insufficient_funds"),
        ([GOOD_COIN], 10_000, 100, "insufficient_funds"),
        ([GOOD_COIN], 9_981, 100, "insufficient_funds"),  # one satoshi short of 192 bytes
        ([GOOD_COIN], 0, 100, "bad_payment"),
        ([GOOD_COIN], -1, 100, "bad_payment"),
        ([GOOD_COIN], 1, 0, "bad_payment"),
        ([GOOD_COIN], 1, 1_001, "bad_payment"),
        ([GOOD_COIN, GOOD_COIN], 1, 100, "bad_payment"),
        ([replace(GOOD_COIN, script=b"\x51")], 1, 100, "bad_payment"),
    ],
)
def test_payments_that_must_not_be_built(
    coins: list[Coin], satoshis: int, rate: int, code: str
) -> None:
    with pytest.raises(PaymentError) as caught:
        build_payment(coins, [TxOut(satoshis, OTHER_SCRIPT)], SCRIPT, rate, KEYS)
    assert caught.value.code == code


def test_a_key_filed_under_another_script_is_noticed() -> None:
    with pytest.raises(PaymentError, match="does not unlock"):
        build_payment([GOOD_COIN], [TxOut(1, SCRIPT)], SCRIPT, 100, {SCRIPT: OTHER_KEY})


def test_a_thousand_outputs() -> None:
    coin = Coin("22" * 32, 0, 10**9, SCRIPT)
    tx = build_payment([coin], [TxOut(1_000, OTHER_SCRIPT)] * 1_000, SCRIPT, 100, KEYS)
    assert len(tx.outputs) == 1_001
    assert_judge_accepts(tx, [coin])
