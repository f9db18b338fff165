"""Signing P2PKH inputs, and building a payment whose arithmetic is checked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from memepool_chain.address import p2pkh_script
from memepool_chain.hashing import hash160, sha256d
from memepool_chain.keys import PrivateKey
from memepool_chain.tx import SATOSHIS_MAX, Tx, TxIn, TxOut, parse_tx
from memepool_chain.varint import encode_varint

ALL_FORKID: Final = 0x41
FEE_RATE_SATS_PER_KB_MAX: Final = 1_000
_NONE, _SINGLE, _CHRONICLE, _FORKID, _ANYONE_CAN_PAY = 0x02, 0x03, 0x20, 0x40, 0x80
# push + DER of at most 71 bytes + sighash type, push + compressed key
_UNLOCKING_SCRIPT_SIZE_MAX = 1 + 71 + 1 + 1 + 33
_DATA_PREFIX = b"\x00\x6a"  # OP_FALSE OP_RETURN: carries data and may carry no satoshis
_TX_VERSION = 1  # since Chronicle, a transaction of version 2 and above can be changed by others


class PaymentError(ValueError):
    """A payment that must not be built: `code` is `insufficient_funds` or `bad_payment`."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Coin:
    """An unspent P2PKH output."""

    txid: str
    vout: int
    satoshis: int
    script: bytes


def sighash_forkid(
    tx: Tx, index: int, prev_script: bytes, prev_satoshis: int, sighash_type: int = ALL_FORKID
) -> bytes:
    """Return the 32 bytes that input `index` signs (BIP-143's digest with FORKID).

    Raises ValueError for a type without FORKID or with Chronicle's 0x20, which both stand for the
    older digest, and IndexError for an input that does not exist.
    """
    if sighash_type & (_FORKID | _CHRONICLE) != _FORKID:
        raise ValueError("the sighash type does not stand for the FORKID digest")
    tx_in = tx.inputs[index]
    base = sighash_type & 0x1F
    anyone_can_pay = bool(sighash_type & _ANYONE_CAN_PAY)
    prevouts = sequences = outputs = bytes(32)
    if not anyone_can_pay:
        prevouts = tx.prevouts_hash
        if base not in (_NONE, _SINGLE):
            sequences = tx.sequences_hash
    if base not in (_NONE, _SINGLE):
        outputs = tx.outputs_hash
    elif base == _SINGLE and index < len(tx.outputs):
        outputs = sha256d(tx.outputs[index].serialize())
    return sha256d(
        b"".join(
            (
                tx.version.to_bytes(4, "little"),
                prevouts,
                sequences,
                tx_in.outpoint(),
                encode_varint(len(prev_script)) + prev_script,
                prev_satoshis.to_bytes(8, "little"),
                tx_in.sequence.to_bytes(4, "little"),
                outputs,
                tx.locktime.to_bytes(4, "little"),
                sighash_type.to_bytes(4, "little"),
            )
        )
    )


def sign_p2pkh(tx: Tx, index: int, key: PrivateKey, prev_script: bytes, prev_satoshis: int) -> Tx:
    """Return the transaction with input `index` signed, ALL|FORKID.

    Raises PaymentError `bad_payment` if the key does not unlock the script.
    """
    script = _unlocking_script(tx, index, key, prev_script, prev_satoshis)
    signed = replace(tx.inputs[index], script=script)
    return replace(tx, inputs=(*tx.inputs[:index], signed, *tx.inputs[index + 1 :]))


def build_payment(
    coins: Sequence[Coin],
    outputs: Sequence[TxOut],
    change_script: bytes,
    fee_rate_sats_per_kb: int,
    keys: Mapping[bytes, PrivateKey],
) -> Tx:
    """Spend all these coins on these outputs; what is left after the fee goes to `change_script`.

    `keys` gives the key of each coin's script. The fee is the rate over the largest size that the
    signatures can make it, rounded up; a rest that would not pay for its own output is left to
    the fee. Raises PaymentError.
    """
    _check_plan(coins, outputs, fee_rate_sats_per_kb, keys)
    spent = sum(coin.satoshis for coin in coins)
    paid = sum(tx_out.satoshis for tx_out in outputs)
    unsigned = Tx(_TX_VERSION, tuple(TxIn(coin.txid, coin.vout) for coin in coins), tuple(outputs))
    fee_alone = _fee(unsigned, fee_rate_sats_per_kb)
    if spent < paid + fee_alone:
        raise PaymentError(
            "insufficient_funds", f"{spent} satoshis do not cover {paid} and a fee of {fee_alone}"
        )
    with_change = replace(unsigned, outputs=(*unsigned.outputs, TxOut(0, change_script)))
    fee = _fee(with_change, fee_rate_sats_per_kb)
    change = spent - paid - fee
    if change > 0:
        unsigned = replace(unsigned, outputs=(*unsigned.outputs, TxOut(change, change_script)))
    else:
        fee = spent - paid
    tx = replace(unsigned, inputs=_signed_inputs(unsigned, coins, keys))
    _check_built(tx, unsigned, spent, fee)
    return tx


def _check_plan(
    coins: Sequence[Coin],
    outputs: Sequence[TxOut],
    fee_rate_sats_per_kb: int,
    keys: Mapping[bytes, PrivateKey],
) -> None:
    if not 1 <= fee_rate_sats_per_kb <= FEE_RATE_SATS_PER_KB_MAX:
        raise PaymentError("bad_payment", f"the fee rate is 1 to {FEE_RATE_SATS_PER_KB_MAX}")
    if not coins:
        raise PaymentError("insufficient_funds", "no coins to spend")
    if len({(coin.txid, coin.vout) for coin in coins}) != len(coins):
        raise PaymentError("bad_payment", "a coin is there twice")
    if any(coin.script not in keys for coin in coins):
        raise PaymentError("bad_payment", "a coin has no key")
    for tx_out in outputs:
        satoshis_min = 0 if tx_out.script.startswith(_DATA_PREFIX) else 1
        if not satoshis_min <= tx_out.satoshis <= SATOSHIS_MAX:
            raise PaymentError("bad_payment", f"{tx_out.satoshis} satoshis cannot be paid")


def _signed_inputs(
    unsigned: Tx, coins: Sequence[Coin], keys: Mapping[bytes, PrivateKey]
) -> tuple[TxIn, ...]:
    """Sign each input over the same unsigned transaction: no signature covers another one."""
    return tuple(
        replace(
            tx_in,
            script=_unlocking_script(
                unsigned, index, keys[coin.script], coin.script, coin.satoshis
            ),
        )
        for index, (tx_in, coin) in enumerate(zip(unsigned.inputs, coins, strict=True))
    )


def _unlocking_script(
    tx: Tx, index: int, key: PrivateKey, prev_script: bytes, prev_satoshis: int
) -> bytes:
    public_key = key.public_key
    if prev_script != p2pkh_script(hash160(public_key)):
        raise PaymentError("bad_payment", f"the key does not unlock the coin of input {index}")
    digest = sighash_forkid(tx, index, prev_script, prev_satoshis)
    signature = key.sign_digest(digest) + bytes([ALL_FORKID])
    return bytes([len(signature)]) + signature + bytes([len(public_key)]) + public_key


def _fee(unsigned: Tx, rate_sats_per_kb: int) -> int:
    size = len(unsigned.serialize()) + len(unsigned.inputs) * _UNLOCKING_SCRIPT_SIZE_MAX
    return -(-size * rate_sats_per_kb // 1000)


def _check_built(tx: Tx, plan: Tx, spent: int, fee: int) -> None:
    """Read the signed bytes back before anybody can send them: parse_tx refuses what is odd."""
    parsed = parse_tx(tx.serialize())
    if parsed != tx or parsed.outputs != plan.outputs:
        raise PaymentError("bad_payment", "the signed bytes do not read back as the plan")
    if spent != sum(tx_out.satoshis for tx_out in parsed.outputs) + fee:
        raise PaymentError("bad_payment", "inputs do not equal outputs plus fee")
