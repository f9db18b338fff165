"""Finding the round that a request means."""

from typing import Final

from memepool_common.db import Session
from memepool_rounds.domain.errors import NoRoundYet, RoundNotFound
from memepool_rounds.store import rounds
from memepool_rounds.store.rounds import Lock, StoredRound

_LOOKS: Final = 3


async def open_round(session: Session, lock: Lock = "") -> StoredRound:
    """The open round; NoRoundYet before the first one.

    Whoever waited for the lock while a block came finds the row closed and nothing in its place:
    the next statement sees the round that opened in the same transaction.
    """
    for _ in range(_LOOKS):
        found = await rounds.open_one(session, lock)
        if found is not None:
            return found
    raise NoRoundYet("No round has opened yet: the chain is still being caught up with.")


async def find_round(session: Session, round_id: int | None, lock: Lock = "") -> StoredRound:
    """The round with this id, None meaning the open one; RoundNotFound, NoRoundYet."""
    if round_id is None:
        return await open_round(session, lock)
    found = await rounds.by_id(session, round_id, lock)
    if found is None:
        raise RoundNotFound(f"There is no round {round_id}.")
    return found
