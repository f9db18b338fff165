"""Bring a checkpoint from an untrusted source: its headers must lead to a hash that is trusted."""

from memepool_chain.difficulty import ancestors_needed
from memepool_chain.header import Header
from memepool_chain.headerstore import Checkpoint
from memepool_chain.network import Network
from memepool_chain.whatsonchain import WhatsOnChain


async def fetch_checkpoint(
    source: WhatsOnChain, network: Network, *, height: int, block_hash: str
) -> Checkpoint:
    """Fetch the block `block_hash`, trusted to be at `height`, and the ancestors it needs.

    Each header names the hash of the one before, so the one trusted hash vouches for all.
    Raises WhatsOnChainError.
    """
    headers: list[Header] = []
    wanted = block_hash
    while len(headers) < min(ancestors_needed(network), height + 1):
        header = (await source.header(wanted)).header
        headers.append(header)
        wanted = header.prev_hash
    return Checkpoint(height, tuple(reversed(headers)))
