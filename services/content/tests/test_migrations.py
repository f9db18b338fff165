"""Migrations go up, down and up again, and the application role has no more than its rights."""

from collections.abc import Awaitable, Callable

import psycopg
import pytest
from sqlalchemy import create_engine, inspect, text
from sqlalchemy.exc import ProgrammingError

from memepool_common.db import Database
from memepool_common.migrations import downgrade, migrate
from memepool_common.settings import DatabaseSettings
from memepool_content.store import tables

PACKAGE = "memepool_content"


def test_up_down_up(database_settings_for: Callable[..., DatabaseSettings]) -> None:
    settings = database_settings_for("content")
    assert settings.owner_url is not None
    owner_url = settings.owner_url.get_secret_value()
    engine = create_engine(owner_url)
    before = set(inspect(engine).get_table_names())
    assert set(tables.metadata.tables) < before
    for table in tables.metadata.tables.values():
        columns = {column["name"] for column in inspect(engine).get_columns(table.name)}
        assert columns == set(table.columns.keys())
    downgrade(PACKAGE, owner_url, settings.app_role, "base")
    assert set(inspect(engine).get_table_names()) == {"alembic_version"}
    migrate(PACKAGE, owner_url, settings.app_role)
    assert set(inspect(engine).get_table_names()) == before
    engine.dispose()


@pytest.mark.parametrize(
    "statement",
    [
        "delete from content",
        "update audit_log set outcome = 'x'",
        "delete from audit_log",
        "update image_hash set content_id = gen_random_uuid()",
        "update variant set sha256 = ''",
        "delete from member",
        "delete from transformation",
        "delete from report",
        "delete from fingerprint",
        "truncate content",
        "drop table content",
        "alter table content disable trigger all",
    ],
)
async def test_the_application_role_cannot(
    database_for: Callable[..., Awaitable[Database]], statement: str
) -> None:
    database = await database_for("content")
    with pytest.raises(ProgrammingError) as refused:
        async with database.transaction() as session:
            await session.execute(text(statement))
    assert isinstance(refused.value.orig, psycopg.Error)
    assert refused.value.orig.sqlstate == "42501"
