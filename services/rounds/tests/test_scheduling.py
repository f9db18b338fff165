"""A policy is for future rounds, also when one opens just then."""

import asyncio

from memepool_rounds.domain.rounds import RoundState
from memepool_rounds.store import rounds
from services.rounds.tests.harness import blocked
from services.rounds.tests.http import POLICY, Api


async def test_a_policy_that_comes_with_a_block_is_for_the_round_after(api: Api) -> None:
    """The block was first: the policy waits for it, and finds another round open."""
    async with api.world.database.transaction() as session:
        held = await rounds.open_one(session, " for update")
        assert held is not None
        admin = api.issuer.principal("admin")
        scheduling = asyncio.create_task(api.post("/rounds/policies", POLICY, admin))
        await blocked(api.world)
        now = api.world.clock.now()
        await rounds.set_closing(session, 100, RoundState.CLOSING, 101, "00", now)
        await rounds.insert(session, 101, "00", held.policy, now)
    assert (await scheduling).json()["fromHeight"] == 102


async def test_before_the_first_round_a_policy_is_for_it(api: Api) -> None:
    now = api.world.clock.now()
    async with api.world.database.transaction() as session:
        await rounds.set_closing(session, 100, RoundState.CLOSING, 101, "00", now)
    answer = await api.post("/rounds/policies", POLICY, api.issuer.principal("admin"))
    assert (answer.status_code, answer.json()["fromHeight"]) == (201, 0)
