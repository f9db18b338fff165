"""A chain that does as it is told: real headers, real transactions, true or false proofs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from memepool_chain.address import decode_p2pkh, p2pkh_script
from memepool_chain.header import Header, meets_target, parse_header
from memepool_chain.merkle import branch, merkle_root
from memepool_chain.network import REGTEST
from memepool_chain.tx import Tx, TxIn, TxOut
from memepool_chain.whatsonchain import NotFound, Proof, SourceHeader, Unavailable, Unspent

BLOCK_INTERVAL_S = 600


@dataclass(frozen=True)
class Block:
    header: Header
    txids: tuple[str, ...]


class FakeChain:
    """A `ChainSource`."""

    def __init__(self) -> None:
        self.blocks = [Block(parse_header(REGTEST.genesis_header), ())]
        self.known: dict[str, SourceHeader] = {}
        self.transactions: dict[str, Tx] = {}
        self.claims: dict[str, list[Unspent]] = {}
        self.proofs: dict[str, Proof] = {}  # lies, instead of the truth
        self.down = False
        self._serial = 0

    def pay(self, address: str, *amounts: int) -> str:
        """A transaction in the memory pool with these outputs; returns its txid."""
        return self._send([(address, amount) for amount in amounts])

    def pay_many(self, amounts: dict[str, int]) -> str:
        """The same with an output for each address."""
        return self._send(list(amounts.items()))

    def _send(self, payments: list[tuple[str, int]]) -> str:
        self._serial += 1
        outputs = tuple(
            TxOut(amount, p2pkh_script(decode_p2pkh(address, REGTEST)))
            for address, amount in payments
        )
        tx = Tx(1, (TxIn(f"{self._serial:064x}", 0, b"\x51"),), outputs)
        self.transactions[tx.txid] = tx
        for vout, (address, amount) in enumerate(payments):
            coin = Unspent(tx.txid, vout, amount, None)
            self.claims.setdefault(address, []).append(coin)
        return tx.txid

    def mine(self, *txids: str) -> Block:
        """A block on the tip with a coinbase and these transactions."""
        self._serial += 1
        tip = self.blocks[-1].header
        everything = (f"{self._serial:064x}", *txids)
        header = Header(
            version=1,
            prev_hash=tip.hash,
            merkle_root=merkle_root(everything),
            time=tip.time + BLOCK_INTERVAL_S,
            bits=REGTEST.pow_limit_bits,
            nonce=0,
        )
        while not meets_target(header):
            header = replace(header, nonce=header.nonce + 1)
        block = Block(header, everything)
        self.blocks.append(block)
        self.known[header.hash] = SourceHeader(header, len(self.blocks) - 1)
        return block

    def drop(self, depth: int) -> None:
        """Forget the last blocks, so that others can take their place."""
        del self.blocks[-depth:]

    async def header(self, hash_or_height: str | int) -> SourceHeader:
        self._answer()
        found = self.known.get(str(hash_or_height))
        if found is None:
            raise NotFound("no such block")
        return found

    async def unspent_all(self, addresses: Sequence[str]) -> dict[str, list[Unspent]]:
        self._answer()
        assert 1 <= len(addresses) <= 20
        return {address: list(self.claims.get(address, [])) for address in addresses}

    async def raw_tx(self, txid: str) -> bytes:
        self._answer()
        if txid not in self.transactions:
            raise NotFound("no such transaction")
        return self.transactions[txid].serialize()

    async def tsc_proof(self, txid: str) -> Proof | None:
        self._answer()
        if txid in self.proofs:
            return self.proofs[txid]
        for block in self.blocks:
            if txid in block.txids:
                index = block.txids.index(txid)
                nodes = tuple(branch(block.txids, index))
                return Proof(txid, index, block.header.hash, nodes)
        return None

    def _answer(self) -> None:
        if self.down:
            raise Unavailable("down")
