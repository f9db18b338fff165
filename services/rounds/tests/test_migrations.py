"""The database: migrations both ways, and what the application role cannot do."""

import asyncio
from collections.abc import Callable

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError, ProgrammingError

from memepool_common.db import Database
from memepool_common.migrations import downgrade, migrate
from memepool_common.settings import DatabaseSettings
from memepool_rounds.domain.policy import STANDARD_1
from memepool_rounds.store import policies
from services.rounds.tests.harness import World

SECOND_OPEN_ROUND = """
insert into round (id, block_hash, policy, opened_at, passed_height)
values (500, '', '{}', now(), 500)
"""
POT_THAT_DOES_NOT_ADD_UP = "insert into result values (100, 3, 10, 0, 10, 1, 5, 5, '', '', '')"
VOTE_WITHOUT_MONEY = """
insert into vote (id, round_id, content_id, voter_id, amount, placed_at)
values (gen_random_uuid(), 1, gen_random_uuid(), gen_random_uuid(), 0, now())
"""
NO_CARRY = "insert into carry (round_id, amount) values (100, 0)"


async def test_migrations_run_up_down_and_up(
    database_settings_for: Callable[..., DatabaseSettings],
) -> None:
    settings = database_settings_for("rounds")
    assert settings.owner_url is not None
    owner_url = settings.owner_url.get_secret_value()
    await asyncio.to_thread(downgrade, "memepool_rounds", owner_url, settings.app_role, "base")
    database = Database.connect(settings)
    tables = text("select count(*) from pg_tables where schemaname = 'public'")
    async with database.read() as session:
        assert (await session.execute(tables)).scalar_one() == 1  # Alembic's own
    await asyncio.to_thread(migrate, "memepool_rounds", owner_url, settings.app_role)
    async with database.read() as session:
        assert (await session.execute(tables)).scalar_one() > 15
        assert await policies.for_height(session, 0) == STANDARD_1
    await database.close()


async def test_the_application_role_cannot_undo_what_must_stay(world: World) -> None:
    for statement in (
        "delete from vote",
        "delete from round",
        "update result set fee = 0",
        "delete from result",
        "update reward set amount = 1",
        "delete from ranking",
        "update carry set amount = 1",
        "delete from carry",
        "update policy set from_height = 0",
        "delete from meme",
        "delete from chain_tip",
        "update audit_log set outcome = 'done'",
        "drop table vote",
        "create table mine (id int)",
    ):
        with pytest.raises(ProgrammingError) as refused:
            async with world.database.transaction() as session:
                await session.execute(text(statement))
        assert getattr(refused.value.orig, "sqlstate", None) == "42501", statement


async def test_the_database_itself_keeps_what_must_never_be(world: World) -> None:
    for statement in (SECOND_OPEN_ROUND, POT_THAT_DOES_NOT_ADD_UP, VOTE_WITHOUT_MONEY, NO_CARRY):
        with pytest.raises(IntegrityError):
            async with world.database.transaction() as session:
                await session.execute(text(statement))
