"""How sure closing blocks are, as blocks come and go."""

from memepool_chain.headerstore import Tip
from memepool_common.db import Session
from memepool_common.events import NewEvent, outbox
from memepool_rounds import events
from memepool_rounds.domain.rounds import finality_of
from memepool_rounds.store import rounds


async def refresh_finality(
    session: Session, tip: Tip, *, final_depth: int, fork_height: int | None = None
) -> None:
    """Say anew how sure each closing block is, where that has changed: even of a final one, where
    the active branch was left below it, at `fork_height`, or is lower now."""
    changed: list[NewEvent] = []
    unchanged = tip.height if fork_height is None else fork_height
    for block in await rounds.closing_blocks(session, above=unchanged - final_depth):
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
