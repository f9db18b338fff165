"""The database: migrations both ways, and what the application role cannot do."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from memepool_common.db import Database
from memepool_common.migrations import downgrade, migrate
from memepool_common.settings import DatabaseSettings


async def test_migrations_run_up_down_and_up(
    database_settings_for: Callable[..., DatabaseSettings],
) -> None:
    settings = database_settings_for("auth")
    assert settings.owner_url is not None
    owner_url = settings.owner_url.get_secret_value()
    await asyncio.to_thread(downgrade, "memepool_auth", owner_url, settings.app_role, "base")
    database = Database.connect(settings)
    tables = text("select count(*) from pg_tables where schemaname = 'public'")
    async with database.read() as session:
        assert (await session.execute(tables)).scalar_one() == 1  # Alembic's own
    await asyncio.to_thread(migrate, "memepool_auth", owner_url, settings.app_role)
    async with database.read() as session:
        assert (await session.execute(tables)).scalar_one() > 10
    await database.close()


async def test_the_application_role_cannot_undo_what_must_stay(
    database_for: Callable[..., Awaitable[Database]],
) -> None:
    database = await database_for("auth")
    for statement in (
        "update audit_log set outcome = 'done'",
        "delete from audit_log",
        "truncate audit_log",
        "delete from app_user",
        "delete from first_admin",
        "update first_admin set applied_at = now()",
        "truncate stats_vote",
        "drop table session",
        "alter table audit_log disable trigger all",
        "create table mine (id int)",
    ):
        with pytest.raises(ProgrammingError) as refused:
            async with database.transaction() as session:
                await session.execute(text(statement))
        assert getattr(refused.value.orig, "sqlstate", None) == "42501", statement
