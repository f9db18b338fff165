"""What the routes share: which round is meant, the wait for news, access to the process's parts."""

import asyncio
import re
from typing import Annotated, Final
from uuid import UUID

from fastapi import Depends, Header, Path, Request

from memepool_common.db import Database
from memepool_common.ids import UUID_PATTERN
from memepool_rounds.settings import Settings
from memepool_rounds.store import projections

_WAIT: Final = re.compile(r'(?:^|[,;\s])wait\s*=\s*("?)([0-9]{1,6})\1(?:$|[,;\s])', re.IGNORECASE)
PROJECTION_POLL_S: Final = 0.05


def _database(request: Request) -> Database:
    database: Database = request.app.state.database
    return database


def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


DatabaseDep = Annotated[Database, Depends(_database)]
SettingsDep = Annotated[Settings, Depends(_settings)]

RoundText = Annotated[
    str,
    Path(
        alias="roundId",
        pattern=r"^(current|0|[1-9][0-9]{0,9})$",
        description="A round's id, or `current` for the open one",
    ),
]


def _round_id(round_text: RoundText) -> int | None:
    return None if round_text == "current" else int(round_text)


RoundId = Annotated[int | None, Depends(_round_id)]
"""None means the round that is open now."""

ContentId = Annotated[UUID, Path(alias="contentId")]
VoteId = Annotated[UUID, Path(alias="voteId")]

LeafText = Annotated[
    str,
    Path(
        alias="voteId",
        pattern=f"^({UUID_PATTERN}|0|[1-9][0-9]{{0,5}}|fee|carryOut)$",
        description="A vote's id; or a reward by its position in the results, from 0 on; or"
        " `fee` or `carryOut`",
    ),
]


def _leaf(leaf: LeafText) -> UUID | str:
    return UUID(leaf) if "-" in leaf else leaf


Leaf = Annotated[UUID | str, Depends(_leaf)]
"""A vote by its id, or a line of the reward table."""


def _wait_s(
    settings: SettingsDep,
    prefer: Annotated[
        str | None, Header(description="`wait=2`: wait so many seconds for the outcome")
    ] = None,
) -> float:
    return min(preferred_wait_s(prefer or ""), settings.wait.vote_s_max)


def preferred_wait_s(prefer: str) -> float:
    """RFC 7240: the first `wait` counts; a preference that is not understood is ignored."""
    found = _WAIT.search(prefer)
    return float(found.group(2)) if found else 0.0


WaitSeconds = Annotated[float, Depends(_wait_s)]


async def wait_for_meme(database: Database, content_id: UUID, timeout_s: float) -> None:
    """Return once the meme is known, or at the latest after `timeout_s`: content's word of a new
    meme may be on its way. No transaction stays open meanwhile."""
    deadline_s = asyncio.get_running_loop().time() + timeout_s
    while True:
        async with database.read() as session:
            if await projections.meme(session, content_id) is not None:
                return
        if asyncio.get_running_loop().time() >= deadline_s:
            return
        await asyncio.sleep(PROJECTION_POLL_S)
