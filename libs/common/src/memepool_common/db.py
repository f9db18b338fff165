"""Database sessions. `Database.transaction()` is the edge: nothing else commits."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any, Self

import psycopg
import structlog
from psycopg.pq import TransactionStatus
from psycopg.rows import namedtuple_row
from sqlalchemy import text
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from memepool_common.settings import DatabaseSettings

Session = AsyncConnection
"""A connection inside a transaction. Statements are SQLAlchemy Core or plain SQL, never ORM."""

NOTIFY_INTERVAL_S = 0.005
LISTEN_AGAIN_S = 1.0
STATEMENTS_MAX = 4
OUTBOX_CHANNEL = "outbox"
# A machine that is gone says nothing. Within some seconds we notice that the server's is, and stop
# waiting for an answer; and the server that ours is, and frees its locks: the relay's is one. Left
# to the defaults, both take up to two hours.
_IN_TIME: dict[str, Any] = {
    "connect_timeout": 5,
    "keepalives_idle": 3,
    "keepalives_interval": 1,
    "keepalives_count": 3,
    "tcp_user_timeout": 6_000,
}
_SERVER_IN_TIME = (
    "-c tcp_keepalives_idle=3 -c tcp_keepalives_interval=1 -c tcp_keepalives_count=3"
    " -c tcp_user_timeout=6000"
)
log = structlog.get_logger(__name__)
_OUTBOX_WRITTEN = "outbox_written"
_NOTIFY = f"notify {OUTBOX_CHANNEL}"


class Statement:
    """A connection for one statement that is a whole transaction, without SQLAlchemy's layers,
    which would take as long as the statement."""

    def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
        self.connection = connection
        self.info: dict[str, Any] = {}


async def run(session: Session | Statement, sql: str, values: Sequence[Any] = ()) -> Sequence[Any]:
    """The rows of a statement in psycopg's words (`%s`, `%b`), each a named tuple."""
    if isinstance(session, Statement):
        cursor = session.connection.cursor(row_factory=namedtuple_row)
        await cursor.execute(sql, values)
        return await cursor.fetchall() if cursor.description else ()
    result = await session.exec_driver_sql(sql, tuple(values))
    return result.all() if result.returns_rows else ()


async def take_time(session: Session, limit_s: float) -> None:
    """Each statement of this transaction may take so long, instead of what the settings say."""
    await session.exec_driver_sql(f"set local statement_timeout = {int(limit_s * 1000)}")


class UnsafeRoleError(RuntimeError):
    """The process would run with more rights than an application role has."""


def mark_outbox_written(session: Session | Statement) -> None:
    """Ask for the relay to be woken once this session's transaction has committed."""
    session.info[_OUTBOX_WRITTEN] = True


class Database:
    """Connections to the service's own database: a pool, and a few for single statements."""

    def __init__(self, engine: AsyncEngine, settings: DatabaseSettings, name: str) -> None:
        self.engine = engine
        self.settings = settings
        self._name = name
        self._statements: list[psycopg.AsyncConnection[Any]] = []
        self._statement_slots = asyncio.Semaphore(STATEMENTS_MAX)
        self.relay_wake: asyncio.Event | None = None
        """Set by this process's relay while it is the active one: it is woken directly."""
        self._closing = False
        self._notify_due = asyncio.Event()
        self._notifier: asyncio.Task[None] | None = None

    @classmethod
    def connect(cls, settings: DatabaseSettings, *, application_name: str = "memepool") -> Self:
        """Open a pool as the application role. No connection is made before the first use."""
        engine = create_async_engine(
            settings.url.get_secret_value(),
            pool_size=settings.pool_size,
            max_overflow=0,
            pool_timeout=settings.pool_timeout_s,
            pool_pre_ping=False,
            connect_args={
                "options": f"{_SERVER_IN_TIME} {_options(settings)}",
                "application_name": application_name,
                **_IN_TIME,
            },
        )
        return cls(engine, settings, application_name)

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[Session]:
        """A transaction that commits when the block ends and rolls back when it raises."""
        async with self.engine.connect() as session:
            session.info.pop(_OUTBOX_WRITTEN, None)
            async with session.begin():
                yield session
            if session.info.pop(_OUTBOX_WRITTEN, False):
                self._wake_relay()

    @contextlib.asynccontextmanager
    async def statement(self) -> AsyncIterator[Statement]:
        """For one statement that is a whole transaction: it commits as it ends.

        Raises:
            PoolTimeoutError: all connections are taken, for `pool_timeout_s`.
        """
        try:
            async with asyncio.timeout(self.settings.pool_timeout_s):
                await self._statement_slots.acquire()
        except TimeoutError:
            raise PoolTimeoutError("all connections for statements are taken") from None
        try:
            if self._statements:
                connection = self._statements.pop()
            else:
                connection = await self.connect_alone(_options(self.settings))
            statement = Statement(connection)
            try:
                yield statement
            finally:
                await self._put_back(connection)
        finally:
            self._statement_slots.release()
        if _OUTBOX_WRITTEN in statement.info:
            self._wake_relay()

    async def _put_back(self, connection: psycopg.AsyncConnection[Any]) -> None:
        if connection.info.transaction_status == TransactionStatus.IDLE and not self._closing:
            self._statements.append(connection)
            return
        await connection.close()
        await self._close_statements()  # the server may have been away: they would fail, too

    async def _close_statements(self) -> None:
        while self._statements:
            await self._statements.pop().close()

    @contextlib.asynccontextmanager
    async def read(self) -> AsyncIterator[Session]:
        """A read-only transaction over one snapshot."""
        async with self.engine.connect() as session:
            await session.execution_options(
                isolation_level="REPEATABLE READ", postgresql_readonly=True
            )
            async with session.begin():
                yield session

    async def connect_alone(self, options: str = "") -> psycopg.AsyncConnection[Any]:
        """A connection outside the pool, in autocommit and without SQLAlchemy's layers, whose
        work costs several times as much; the caller closes it."""
        url = self.settings.url.get_secret_value().replace("postgresql+psycopg:", "postgresql:")
        return await psycopg.AsyncConnection.connect(
            url,
            autocommit=True,
            options=f"{_SERVER_IN_TIME} {options}",
            application_name=self._name,
            **_IN_TIME,
        )

    @contextlib.asynccontextmanager
    async def listening(self, channel: str, wake: asyncio.Event) -> AsyncIterator[None]:
        """Set `wake` at each NOTIFY on a channel, on a connection of its own. It is a help: whoever
        waits polls, too."""

        async def listen() -> None:
            async with await self.connect_alone() as listener:
                await listener.execute(f"listen {channel}")
                wake.set()  # for what nobody heard
                async for _ in listener.notifies():
                    wake.set()

        async def listen_on() -> None:
            while True:
                try:
                    await listen()
                except (psycopg.Error, OSError) as error:
                    log.warning("listener_lost", channel=channel, error=repr(error))
                await asyncio.sleep(LISTEN_AGAIN_S)

        task = asyncio.create_task(listen_on(), name=f"{channel}-listener")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def ping(self) -> None:
        """Raise when the database does not answer. A pool that is busy is no reason."""
        async with self.statement() as session:
            await run(session, "select 1")

    async def require_application_role(self) -> None:
        """Refuse to run as superuser, or as owner of the tables (it could undo its own limits).

        Raises:
            UnsafeRoleError: the role may do more than an application role should.
        """
        async with self.engine.connect() as session:
            row = (
                await session.execute(
                    text(
                        "select rolsuper or rolcreaterole or rolcreatedb or rolbypassrls as strong,"
                        " exists (select from pg_class c join pg_namespace n"
                        "   on n.oid = c.relnamespace and n.nspname = 'public'"
                        "   where c.relowner = r.oid) as owns"
                        " from pg_roles r where rolname = current_user"
                    )
                )
            ).one()
        if row.strong or row.owns:
            msg = "refusing to start: the database role must be a plain application role"
            raise UnsafeRoleError(msg)

    async def close(self) -> None:
        """Close all connections."""
        self._closing = True
        if self._notifier is not None:  # not cancelled: a connection in use would be lost
            self._notify_due.set()
            await self._notifier
        await self._close_statements()
        await self.engine.dispose()

    def _wake_relay(self) -> None:
        if self.relay_wake is not None:
            self.relay_wake.set()
            return
        self._notify_due.set()
        if self._notifier is None or self._notifier.done():
            self._notifier = asyncio.create_task(self._notify_loop(), name="outbox-notifier")

    async def _notify_loop(self) -> None:
        """NOTIFY outside business transactions, at most once per interval.

        A commit that carries a NOTIFY takes a lock on the whole server; this keeps it off the
        hot path, and does not wait for the disk with it. A lost wake-up costs the relay's poll
        interval, nothing else.
        """
        connection = None
        while True:
            await self._notify_due.wait()
            if self._closing:
                break
            self._notify_due.clear()
            try:
                connection = connection or await self.connect_alone("-c synchronous_commit=off")
                await connection.execute(_NOTIFY)
            except Exception:  # noqa: BLE001 - see above
                if connection is not None:
                    await connection.close()
                connection = None
            await asyncio.sleep(NOTIFY_INTERVAL_S)
        if connection is not None:
            await connection.close()


def _options(settings: DatabaseSettings) -> str:
    return " ".join(
        f"-c {name}={int(seconds * 1000)}"
        for name, seconds in (
            ("statement_timeout", settings.statement_timeout_s),
            ("lock_timeout", settings.lock_timeout_s),
            ("idle_in_transaction_session_timeout", settings.idle_in_transaction_timeout_s),
        )
    )
