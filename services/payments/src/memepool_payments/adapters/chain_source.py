"""The chain as payments asks for it. `memepool_chain.whatsonchain.WhatsOnChain` is one."""

from collections.abc import Sequence
from typing import Protocol

from memepool_chain.whatsonchain import NotFound, Proof, SourceHeader, Unspent, WhatsOnChainError

__all__ = ["ChainSource", "NotFound", "Proof", "SourceHeader", "Unspent", "WhatsOnChainError"]


class ChainSource(Protocol):
    """A source of claims about the chain, each to be checked. Raises WhatsOnChainError."""

    async def header(self, hash_or_height: str | int) -> SourceHeader:
        """A header by hash; its hash is computed from its fields."""
        ...

    async def unspent_all(self, addresses: Sequence[str]) -> dict[str, list[Unspent]]:
        """Coins of up to 20 addresses."""
        ...

    async def raw_tx(self, txid: str) -> bytes:
        """The bytes that hash to this txid."""
        ...

    async def tsc_proof(self, txid: str) -> Proof | None:
        """The merkle proof of a mined transaction; None while it is not mined."""
        ...
