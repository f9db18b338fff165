"""A player's wallet: one key, its address, and what it signs."""

from collections.abc import Sequence

from memepool_chain.address import address_of, p2pkh_script
from memepool_chain.hashing import hash160, sha256
from memepool_chain.keys import PrivateKey
from memepool_chain.message import sign_bsm
from memepool_chain.network import REGTEST, Network
from memepool_chain.signing import Coin, build_payment
from memepool_chain.tx import Tx, TxOut

FEE_RATE_SATS_PER_KB = 100


class Wallet:
    """Signs messages and payments with a key made from a seed; the same seed, the same wallet."""

    def __init__(self, seed: bytes, network: Network = REGTEST) -> None:
        self._key = PrivateKey.from_bytes(sha256(b"memepool sandbox wallet" + seed))
        self.script = p2pkh_script(hash160(self._key.public_key))
        self.address = address_of(self._key.public_key, network)

    def sign(self, message: str) -> str:
        """The message signed as a Bitcoin Signed Message, base64."""
        return sign_bsm(message, self._key)

    def coin(self, txid: str, vout: int, amount_sats: int) -> Coin:
        """A coin of this wallet."""
        return Coin(txid, vout, amount_sats, self.script)

    def pay(self, coins: Sequence[Coin], outputs: Sequence[TxOut]) -> Tx:
        """A signed transaction that spends all `coins`; the change comes back.

        Raises PaymentError when the coins do not cover outputs and fee.
        """
        return build_payment(
            coins, outputs, self.script, FEE_RATE_SATS_PER_KB, {self.script: self._key}
        )
