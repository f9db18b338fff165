"""The transaction parser: real transactions, round trips, and everything that must be refused."""

import pytest
from bsv import Transaction
from hypothesis import given
from hypothesis import strategies as st

from memepool_chain.tx import SATOSHIS_MAX, Tx, TxError, TxIn, TxOut, parse_tx
from memepool_chain.varint import EncodingError, Reader, encode_varint

# The first payment ever, block 170.
FIRST_PAYMENT = bytes.fromhex(
    "0100000001c997a5e56e104102fa209c6a852dd90660a20b2d9c352423edce25857fcd37040000000048473044"
    "02204e45e16932b8af514961a1d3a1a25fdf3f4f7732e9d624c6c61548ab5fb8cd410220181522ec8eca07de48"
    "60a4acdd12909d831cc56cbbac4622082221a8768d1d0901ffffffff0200ca9a3b00000000434104ae1a62fe09"
    "c5f51b13905f07f06b99a2f7159b2225f374cd378d71302fa28414e7aab37397f554a7df5f142c21c1b7303b8a"
    "0626f1baded5c72a704f7e6cd84cac00286bee0000000043410411db93e1dcdb8a016b49840f8c53bc1eb68a38"
    "2e97b1482ecad7b148a6909a5cb2e0eaddfb84ccf9744464f82e160bfa9b8b64f9d4c03f999b8643f656b412a3"
    "ac00000000"
)
FIRST_PAYMENT_TXID = "f4184fc596403b9d638783cf57adfe4c75c605f6356fbc91338530e9831e9e16"
GENESIS_COINBASE = bytes.fromhex(
    "01000000010000000000000000000000000000000000000000000000000000000000000000ffffffff4d04ffff"
    "001d0104455468652054696d65732030332f4a616e2f32303039204368616e63656c6c6f72206f6e206272696e"
    "6b206f66207365636f6e64206261696c6f757420666f722062616e6b73ffffffff0100f2052a01000000434104"
    "678afdb0fe5548271967f1a67130b7105cd6a828e03909a67962e0ea1f61deb649f6bc3f4cef38c4f35504e51e"
    "c112de5c384df7ba0b8d578a4c702b6bf11d5fac00000000"
)

HASHES = st.binary(min_size=32, max_size=32).filter(any).map(bytes.hex)
UINT32 = st.integers(0, 0xFFFF_FFFF)
SCRIPTS = st.binary(max_size=300)
INPUTS = st.lists(
    st.builds(TxIn, HASHES, UINT32, SCRIPTS, UINT32),
    min_size=1,
    max_size=4,
    unique_by=lambda tx_in: (tx_in.prev_txid, tx_in.prev_vout),
).map(tuple)
OUTPUTS = st.lists(
    st.builds(TxOut, st.integers(0, SATOSHIS_MAX // 4), SCRIPTS), min_size=1, max_size=4
).map(tuple)
TXS = st.builds(Tx, UINT32, INPUTS, OUTPUTS, UINT32).filter(lambda tx: len(tx.serialize()) != 64)


def refusal(raw: bytes) -> TxError:
    with pytest.raises(TxError) as caught:
        parse_tx(raw)
    return caught.value


def test_the_first_payment() -> None:
    tx = parse_tx(FIRST_PAYMENT)
    assert tx.txid == FIRST_PAYMENT_TXID
    assert [tx_out.satoshis for tx_out in tx.outputs] == [10_0000_0000, 40_0000_0000]
    assert tx.inputs[0].prev_txid.startswith("0437cd7f8525ceed")
    assert not tx.is_coinbase


def test_the_first_coinbase() -> None:
    tx = parse_tx(GENESIS_COINBASE)
    assert tx.txid == "4a5e1e4baab89f3a32518a88c31bc87f618f76673e2cc77ab2127b7afdeda33b"
    assert tx.is_coinbase


@given(TXS)
def test_what_is_written_reads_back_and_the_judge_agrees(tx: Tx) -> None:
    raw = tx.serialize()
    assert parse_tx(raw) == tx
    judged = Transaction.from_hex(raw)
    assert judged is not None
    assert judged.txid() == tx.txid


@pytest.mark.parametrize("length", range(len(FIRST_PAYMENT)))
def test_every_truncation_is_refused(length: int) -> None:
    refusal(FIRST_PAYMENT[:length])


@given(TXS, st.binary(min_size=1, max_size=3))
def test_trailing_bytes_are_refused(tx: Tx, extra: bytes) -> None:
    refusal(tx.serialize() + extra)


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(raw: bytes) -> None:
    try:
        tx = parse_tx(raw)
    except TxError:
        return
    assert tx.serialize() == raw


@given(st.integers(0, len(FIRST_PAYMENT) - 1), st.integers(1, 255))
def test_a_flipped_byte_is_refused_or_another_transaction(at: int, flip: int) -> None:
    raw = bytearray(FIRST_PAYMENT)
    raw[at] ^= flip
    try:
        tx = parse_tx(bytes(raw))
    except TxError:
        return
    assert tx.serialize() == raw
    assert tx.txid != FIRST_PAYMENT_TXID


def test_sixty_four_bytes_could_be_a_node_of_a_merkle_tree() -> None:
    tx = Tx(1, (TxIn("11" * 32, 0),), (TxOut(1, b"\x51" * 4),))
    assert len(tx.serialize()) == 64
    assert "merkle" in refusal(tx.serialize()).detail
    longer = Tx(1, tx.inputs, (TxOut(1, b"\x51" * 5),))
    assert parse_tx(longer.serialize()) == longer


def test_too_large_has_a_code_of_its_own() -> None:
    with pytest.raises(TxError) as caught:
        parse_tx(FIRST_PAYMENT, size_bytes_max=len(FIRST_PAYMENT) - 1)
    assert caught.value.code == "transaction_too_large"
    assert parse_tx(FIRST_PAYMENT, size_bytes_max=len(FIRST_PAYMENT)).txid == FIRST_PAYMENT_TXID


ONE_IN = (TxIn("11" * 32, 0, b"\x51"),)
ONE_OUT = (TxOut(1, b"\x51"),)


@pytest.mark.parametrize(
    ("tx", "why"),
    [
        (Tx(1, (), ONE_OUT), "no inputs"),
        (Tx(1, ONE_IN, ()), "no outputs"),
        (Tx(1, ONE_IN + ONE_IN, ONE_OUT), "twice"),
        (Tx(1, ONE_IN, (TxOut(SATOSHIS_MAX + 1, b""),)), "21 million"),
        (Tx(1, ONE_IN, (TxOut(SATOSHIS_MAX, b""), TxOut(1, b""))), "21 million"),
        (Tx(1, ONE_IN, (TxOut((1 << 64) - 1, b""),)), "21 million"),
        (Tx(1, (*ONE_IN, TxIn("00" * 32, 0)), ONE_OUT), "no coinbase"),
    ],
)
def test_what_no_node_would_accept_is_refused(tx: Tx, why: str) -> None:
    error = refusal(tx.serialize())
    assert why in error.detail
    assert error.code == "malformed_transaction"


@pytest.mark.parametrize("count", ["fdffff", "feffffffff", "ffffffffffffffffff"])
def test_an_announced_million_of_inputs_costs_nothing(count: str) -> None:
    assert "announced" in refusal(bytes.fromhex("01000000" + count) + bytes(50)).detail


def test_lengths_must_be_in_their_shortest_form() -> None:
    raw = Tx(1, ONE_IN, ONE_OUT).serialize()
    assert raw[4:5] == b"\x01"
    refusal(raw[:4] + b"\xfd\x01\x00" + raw[5:])


@given(st.integers(0, (1 << 64) - 1))
def test_variable_length_integers(value: int) -> None:
    assert Reader(encode_varint(value)).varint() == value


@pytest.mark.parametrize("text", ["fdfc00", "feffff0000", "ffffffffff00000000", "fd", "fe0000", ""])
def test_variable_length_integers_too_long_or_too_short(text: str) -> None:
    with pytest.raises(EncodingError):
        Reader(bytes.fromhex(text)).varint()
