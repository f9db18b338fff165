"""How sure closing blocks are, as blocks come and go."""

from typing import Final

from memepool_chain.headerstore import Tip
from memepool_common.db import Session
from memepool_common.events import NewEvent, outbox
from memepool_rounds import events
from memepool_rounds.domain.rounds import finality_of
from memepool_rounds.store import rounds

WATCHED_DEPTH: Final = 144
"""Even a final closing block is watched for as many more blocks, so that nothing is hidden."""


async def refresh_finality(session: Session, tip: Tip, *, final_depth: int) -> None:
    """Say anew how sure each closing block is, where that has changed."""
    changed: list[NewEvent] = []
    for block in await rounds.closing_blocks(session, above=tip.height - WATCHED_DEPTH):
        finality = finality_of(
            closing_height=block.height,
            active=block.active,
            tip_height=tip.height,
            final_depth=final_depth,
        )
        if finality == block.finality:
            continue
        await rounds.set_finality(session, block.round_id, finality)
        data = events.RoundFinalityData(
            round_id=str(block.round_id), closing_block_hash=block.hash, finality=finality
        )
        changed.append(
            events.about_round(events.ROUND_FINALITY, str(block.round_id), data, tip.version)
        )
    await outbox.append(session, changed)
