"""Sessions, roles and migrations on a real PostgreSQL."""

import asyncio
import contextlib
from collections.abc import Callable

import pytest
from psycopg.errors import OperationalError, UndefinedTable
from pydantic import SecretStr
from sqlalchemy import create_engine, inspect, text
from sqlalchemy.exc import DBAPIError, InternalError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from memepool_common.db import Database, UnsafeRoleError, run
from memepool_common.migrations import downgrade, migrate
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


async def test_a_statement_is_a_transaction_and_does_not_taint_its_connection(
    database: Database,
) -> None:
    async with database.statement() as session:
        await run(session, "insert into effect (name) values (%s)", ("a",))
        async with database.read() as other:
            assert (await other.execute(text("select count(*) from effect"))).scalar_one() == 1
    for _ in range(10):  # more than the pool has connections
        with pytest.raises(RuntimeError):
            async with database.transaction() as session:
                await session.execute(text("insert into effect (name) values ('b')"))
                raise RuntimeError
    async with database.read() as session:
        assert (await session.execute(text("select count(*) from effect"))).scalar_one() == 1


async def test_a_statement_that_fails_spoils_nothing_for_the_next(database: Database) -> None:
    for _ in range(10):  # more than there are connections
        with pytest.raises(UndefinedTable):
            async with database.statement() as session:
                await run(session, "select from nothing")
    async with database.statement() as session:
        ((number,),) = await run(session, "select %s::int", (7,))
    assert number == 7


async def test_statements_have_new_connections_after_one_was_lost(database: Database) -> None:
    async with contextlib.AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(database.statement()) for _ in range(4)]
        pids = [(await run(each, "select pg_backend_pid()"))[0][0] for each in opened]
    async with database.transaction() as session:
        await session.execute(
            text("select pg_terminate_backend(p) from unnest(:p) as p"), {"p": pids}
        )
    with pytest.raises(OperationalError):
        async with database.statement() as session:
            await run(session, "select 1")
    for _ in range(4):
        async with database.statement() as session:
            assert (await run(session, "select pg_backend_pid()"))[0][0] not in pids


async def test_a_statement_may_be_cancelled_at_any_moment(database: Database) -> None:
    async def ask(number: int, sleep_s: float) -> int:
        async with database.statement() as session:
            sql = "select %s::int from (select pg_sleep(%s)) as slept"
            ((found,),) = await run(session, sql, (number, sleep_s))
        return int(found)

    for steps in range(60):
        task = asyncio.create_task(ask(-1, 0.002 * (steps % 3)))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled() or task.result() == -1
        assert await ask(steps, 0) == steps  # and no answer to somebody else
    async with contextlib.AsyncExitStack() as stack:  # nor is a connection missing
        opened = [await stack.enter_async_context(database.statement()) for _ in range(4)]
        assert [await run(each, "select 1") for each in opened] == [[(1,)]] * 4


async def test_a_database_whose_pool_is_taken_answers_all_the_same(database: Database) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(database.settings.pool_size):
            await stack.enter_async_context(database.read())
        async with asyncio.timeout(database.settings.pool_timeout_s / 2):
            await database.ping()


async def test_a_listener_whose_connection_is_lost_listens_again(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("memepool_common.db.LISTEN_AGAIN_S", 0.01)
    wake = asyncio.Event()
    ends = "select pg_terminate_backend(pid) from pg_stat_activity where query = 'listen sample'"
    async with database.listening("sample", wake), asyncio.timeout(20):
        for lost in (False, True):
            if lost:
                async with database.statement() as session:
                    assert await run(session, ends) == [(True,)]
            await wake.wait()  # it listens from now on
            wake.clear()
            async with database.statement() as session:
                await run(session, "notify sample")
            await wake.wait()
            wake.clear()


async def test_who_waits_too_long_for_a_connection_is_told(database: Database) -> None:
    database.settings = database.settings.model_copy(update={"pool_timeout_s": 0.01})
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(4):
            await stack.enter_async_context(database.statement())
        with pytest.raises(PoolTimeoutError):
            await stack.enter_async_context(database.statement())
    async with database.statement() as session:
        assert await run(session, "select 1") == [(1,)]


async def test_both_ends_notice_soon_that_the_other_machine_is_gone(database: Database) -> None:
    limits = ("keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout")
    names = [f"tcp_{limit.removeprefix('tcp_')}" for limit in limits]
    there = "select reset_val::int from pg_settings where name = %s and source = 'client'"
    alone = await database.connect_alone()
    async with alone, database.statement() as statement, database.transaction() as session:
        pooled = (await session.get_raw_connection()).driver_connection
        for connection in (alone, statement.connection, pooled):
            assert connection is not None
            ours = [int(connection.info.get_parameters()[limit]) for limit in limits]
            # The settings: on a socket within this machine they have no effect.
            told = [await connection.execute(there, [name]) for name in names]
            theirs = [value for cursor in told for (value,) in await cursor.fetchall()]
            for idle_s, interval_s, count, unanswered_ms in (ours, theirs):
                assert 0 < idle_s + interval_s * count <= 10
                assert 0 < unanswered_ms <= 10_000


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
