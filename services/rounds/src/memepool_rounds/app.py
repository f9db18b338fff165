"""Wiring of the API process."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime

from fastapi import FastAPI

from memepool_common.audit import audit_router
from memepool_common.collector import Collector
from memepool_common.web.app import Probes, build_app, internal_app
from memepool_common.web.lifespan import api_resources
from memepool_rounds.api import chain, policies, rounds, submissions, votes
from memepool_rounds.api.backlog import Backlog
from memepool_rounds.api.waiting import VoteWaiter
from memepool_rounds.domain import errors
from memepool_rounds.settings import Settings
from memepool_rounds.store.votes import PlaceVote, StoredVote
from memepool_rounds.use_cases.voting import place_votes

VOTES_PACE_S, VOTES_PACE_FULL_S = 0.015, 0.046

STATUSES: dict[type[Exception], int] = {
    errors.Missing: 404,
    errors.Conflict: 409,
    errors.Forbidden: 403,
    errors.Gone: 410,
    errors.Unacceptable: 422,
}


def create_apps(settings: Settings, probes: Probes) -> tuple[FastAPI, FastAPI]:
    """The public and the internal application."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with api_resources(app, settings, probes) as database:
            backlog = Backlog()

            async def place(batch: Sequence[PlaceVote]) -> Sequence[StoredVote | Exception]:
                async with database.statement() as session:
                    refusal = await backlog.refusal(session)
                    if refusal is not None:
                        return [refusal] * len(batch)
                    return await place_votes(
                        session,
                        batch,
                        votes_max=settings.rounds.votes_max,
                        now=datetime.now(UTC),
                    )

            app.state.settings = settings
            app.state.collector = Collector(
                place, pace_s=VOTES_PACE_S, pace_full_s=VOTES_PACE_FULL_S
            )
            app.state.waiter = VoteWaiter(database, settings.wait.poll_interval_s)
            yield
            await app.state.collector.drain()
            await app.state.waiter.close()

    public = build_app(
        service="rounds",
        description="Rounds between two blocks, the memes in them, votes, results.",
        settings=settings.http,
        lifespan=lifespan,
        # Words before parameters: /rounds/policies is not the round "policies".
        routers=[
            audit_router("rounds"),
            policies.router,
            chain.router,
            rounds.router,
            submissions.router,
            votes.router,
        ],
        errors=STATUSES,
        fast=votes.FAST_PLACE,
    )
    return public, internal_app(probes)
