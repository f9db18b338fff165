"""The database itself: up, down, up; and what the application role may not do."""

from collections.abc import Awaitable, Callable

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import ProgrammingError

from memepool_common.db import Database
from memepool_common.migrations import downgrade, migrate
from memepool_common.settings import DatabaseSettings

PACKAGE = "memepool_payments"
TABLES = text(
    "select count(*) from pg_class c join pg_namespace n on n.oid = c.relnamespace"
    " where n.nspname = 'public' and c.relkind = 'r' and c.relname <> 'alembic_version'"
)
FUNCTIONS = text(
    "select count(*) from pg_proc p join pg_namespace n on n.oid = p.pronamespace"
    " where n.nspname = 'public'"
)


def owner_url(settings: DatabaseSettings) -> str:
    assert settings.owner_url is not None
    return settings.owner_url.get_secret_value()


def test_down_leaves_nothing_and_up_works_again(
    database_settings_for: Callable[..., DatabaseSettings],
) -> None:
    settings = database_settings_for("payments")
    url = owner_url(settings)
    engine = create_engine(url)
    with engine.connect() as connection:
        tables = connection.execute(TABLES).scalar_one()
    downgrade(PACKAGE, url, settings.app_role, "base")
    with engine.connect() as connection:
        assert connection.execute(TABLES).scalar_one() == 0
        assert connection.execute(FUNCTIONS).scalar_one() == 0
    migrate(PACKAGE, url, settings.app_role)
    with engine.connect() as connection:
        assert connection.execute(TABLES).scalar_one() == tables
    engine.dispose()


FORBIDDEN = [
    "update movement set amount = 1",
    "delete from movement",
    "truncate movement",
    "insert into movement (journal_id, line, source, target, amount) values (1, 1, 1, 2, 1)",
    "update journal set outcome = 'posted'",
    "delete from journal",
    (
        "insert into journal (scope, key, request_hash, kind, outcome)"
        " values ('x', 'x', '', 'transfer', 'posted')"
    ),
    "update balance set posted = 1000000",
    "insert into balance (account_id, limited) values (1, false)",
    "delete from balance",
    "insert into account (kind) values ('carry')",
    "update distribution set fee = 0",
    "delete from distribution",
    "update stake set amount = 1",
    "delete from stake",
    "update carry set amount = 1",
    "update audit_log set action = 'x'",
    "delete from audit_log",
    "update audit_block set seq = 2",
    "delete from audit_block",
    "delete from withdrawal_stop",
    "update signature_challenge set expires_at = now()",
    "alter table movement disable trigger all",
]


async def test_the_application_role_may_not(
    database_for: Callable[..., Awaitable[Database]],
) -> None:
    database = await database_for("payments")
    for statement in FORBIDDEN:
        with pytest.raises(ProgrammingError) as refused:
            async with database.transaction() as session:
                await session.execute(text(statement))
        assert getattr(refused.value.orig, "sqlstate", None) == "42501", statement


def test_not_even_the_owner_changes_history(
    database_settings_for: Callable[..., DatabaseSettings],
) -> None:
    engine = create_engine(owner_url(database_settings_for("payments")))
    for statement in (
        "update movement set amount = 2",
        "delete from movement",
        "truncate movement",
        "delete from journal",
    ):
        with engine.connect() as connection, pytest.raises(ProgrammingError, match="append-only"):
            connection.execute(text(statement))
    engine.dispose()
