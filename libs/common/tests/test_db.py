"""Sessions, roles and migrations on a real PostgreSQL."""

from collections.abc import Callable

import pytest
from pydantic import SecretStr
from sqlalchemy import create_engine, inspect, text
from sqlalchemy.exc import DBAPIError, InternalError, ProgrammingError

from memepool_common.db import Database, UnsafeRoleError
from memepool_common.migrations import downgrade, head_revision, migrate
from memepool_common.settings import DatabaseSettings
from memepool_common.tables import audit_log, idempotency_key, outbox

SAMPLE = "memepool_common.testing.sample"
Settings = Callable[..., DatabaseSettings]


async def test_a_transaction_commits_at_its_end_and_only_then(database: Database) -> None:
    async with database.transaction() as session, database.read() as other:
        await session.execute(text("insert into effect (name) values ('a')"))
        assert (await other.execute(text("select count(*) from effect"))).scalar_one() == 0
    async with database.read() as session:
        assert (await session.execute(text("select count(*) from effect"))).scalar_one() == 1


async def test_a_transaction_that_raises_changes_nothing(database: Database) -> None:
    with pytest.raises(RuntimeError):
        async with database.transaction() as session:
            await session.execute(text("insert into effect (name) values ('a')"))
            raise RuntimeError
    async with database.read() as session:
        assert (await session.execute(text("select count(*) from effect"))).scalar_one() == 0


async def test_a_read_session_cannot_write_and_does_not_taint_its_connection(
    database: Database,
) -> None:
    for _ in range(10):  # more than the pool has connections
        with pytest.raises(InternalError, match="read-only"):
            async with database.read() as session:
                await session.execute(text("insert into effect (name) values ('a')"))
    async with database.transaction() as session:
        await session.execute(text("insert into effect (name) values ('b')"))


async def test_the_application_role_may_start_and_stronger_roles_may_not(
    database: Database,
) -> None:
    await database.require_application_role()
    owner_url = database.settings.owner_url
    assert owner_url is not None
    owner = Database.connect(database.settings.model_copy(update={"url": owner_url}))
    with pytest.raises(UnsafeRoleError):
        await owner.require_application_role()
    await owner.close()
    superuser_url = SecretStr(owner_url.get_secret_value().replace("sample_owner", "postgres"))
    superuser = Database.connect(database.settings.model_copy(update={"url": superuser_url}))
    with pytest.raises(UnsafeRoleError):
        await superuser.require_application_role()
    await superuser.close()


@pytest.mark.parametrize(
    "statement",
    [
        "update audit_log set action = 'forged'",
        "delete from audit_log",
        "truncate audit_log",
        "update inbox set consumer = 'x'",
        "update idempotency_key set body = ''",
        "drop table outbox",
        "create table mine (x int)",
        "alter table audit_log disable trigger all",
    ],
)
async def test_the_application_role_cannot_rewrite_history(
    database: Database, statement: str
) -> None:
    with pytest.raises(ProgrammingError) as refusal:
        async with database.transaction() as session:
            await session.execute(text(statement))
    assert getattr(refusal.value.orig, "sqlstate", None) == "42501"


async def test_a_statement_that_takes_too_long_is_ended(
    database_settings_for: Settings,
) -> None:
    settings = database_settings_for("sample", SAMPLE)
    hasty = Database.connect(settings.model_copy(update={"statement_timeout_s": 0.1}))
    with pytest.raises(DBAPIError, match="statement timeout"):
        async with hasty.read() as session:
            await session.execute(text("select pg_sleep(10)"))
    await hasty.close()


def test_migrations_go_up_down_and_up_again(database_settings_for: Settings) -> None:
    settings = database_settings_for("sample", SAMPLE)
    assert settings.owner_url is not None
    owner_url = settings.owner_url.get_secret_value()
    engine = create_engine(owner_url)

    def tables() -> set[str]:
        return set(inspect(engine).get_table_names()) - {"alembic_version"}

    made = tables()
    assert {"outbox", "inbox", "audit_log", "idempotency_key", "effect"} == made
    downgrade(SAMPLE, owner_url, settings.app_role, "base")
    assert tables() == set()
    migrate(SAMPLE, owner_url, settings.app_role)
    assert tables() == made
    assert head_revision(SAMPLE) == "0001"
    engine.dispose()


def test_the_tables_in_code_are_those_in_the_database(database_settings_for: Settings) -> None:
    settings = database_settings_for("sample", SAMPLE)
    assert settings.owner_url is not None
    engine = create_engine(settings.owner_url.get_secret_value())
    found = inspect(engine)
    for described in (outbox, audit_log, idempotency_key):
        there = {column["name"] for column in found.get_columns(described.name)}
        assert {column.name for column in described.columns} <= there
    engine.dispose()
