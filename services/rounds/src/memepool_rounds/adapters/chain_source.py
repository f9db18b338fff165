"""Where blocks are heard of, as a port. WhatsOnChain's client is one; it is never trusted."""

from typing import Protocol

from memepool_chain.whatsonchain import ChainInfo, SourceHeader


class ChainSource(Protocol):
    """Every method raises WhatsOnChainError when there is no usable answer."""

    async def chain_info(self) -> ChainInfo:
        """Where the source says the chain stands."""
        ...

    async def header(self, hash_or_height: str | int) -> SourceHeader:
        """A header by hash, or the source's active one at a height."""
        ...

    async def headers_latest(
        self, *, limit: int = 10, start_hash: str | None = None
    ) -> list[SourceHeader]:
        """Up to 20 headers downwards, from a hash."""
        ...
