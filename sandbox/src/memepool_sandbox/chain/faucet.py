"""Where the sandbox's coins come from: the key that every block pays."""

from memepool_chain.address import p2pkh_script, script_hash
from memepool_chain.hashing import hash160
from memepool_chain.keys import PrivateKey
from memepool_chain.signing import Coin, build_payment
from memepool_chain.tx import Tx, TxOut
from memepool_sandbox.chain.rules import is_mature
from memepool_sandbox.chain.view import View, outpoints

FUND_SATS_MAX = 200 * 100_000_000
FEE_RATE_SATS_PER_KB = 100
_COINS_MAX = 50
_FEE_RESERVE_SATS = 1_000  # covers a transaction of _COINS_MAX inputs


class FaucetError(Exception):
    """The faucet cannot do what was asked; `code` is stable."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


class Faucet:
    """Signs payments from the coins that the blocks of this chain paid to its key."""

    def __init__(self, key: PrivateKey) -> None:
        self.script = p2pkh_script(hash160(key.public_key))
        self._keys = {self.script: key}

    def pay(self, view: View, script: bytes, amount_sats: int, height: int) -> Tx:
        """A signed transaction that pays `amount_sats` to `script`, for a block at `height`.

        Raises FaucetError `faucet_empty`.
        """
        coins = self._select(view, amount_sats + _FEE_RESERVE_SATS, height)
        return self._sign(coins, [TxOut(amount_sats, script)])

    def double_spend(self, view: View, tx: Tx) -> Tx:
        """Another use of the first of the faucet's own coins that `tx` spends.

        Raises FaucetError `not_ours` when it spends none: nobody else's key is known here.
        """
        for outpoint in outpoints(tx):
            out = view.output(outpoint)
            if out is not None and out.script == self.script:
                coin = Coin(outpoint.txid, outpoint.vout, out.satoshis, out.script)
                return self._sign([coin], [])
        raise FaucetError(
            "not_ours",
            "Only transactions that spend the faucet's coins (those of /control/fund) can be"
            " double-spent: the sandbox has no other keys.",
        )

    def _sign(self, coins: list[Coin], outputs: list[TxOut]) -> Tx:
        return build_payment(coins, outputs, self.script, FEE_RATE_SATS_PER_KB, self._keys)

    def _select(self, view: View, amount_sats: int, height: int) -> list[Coin]:
        """Oldest coins first, so that confirmed ones go before unconfirmed change."""
        coins: list[Coin] = []
        missing_sats = amount_sats
        for outpoint in view.coins(script_hash(self.script)):
            if missing_sats <= 0 or len(coins) == _COINS_MAX:
                break
            known = view.known(outpoint.txid)
            if known is None or (known.tx.is_coinbase and not is_mature(known.height, height)):
                continue
            satoshis = known.tx.outputs[outpoint.vout].satoshis
            coins.append(Coin(outpoint.txid, outpoint.vout, satoshis, self.script))
            missing_sats -= satoshis
        if missing_sats > 0:
            raise FaucetError("faucet_empty", "The faucet has too few coins; mine some blocks.")
        return coins
