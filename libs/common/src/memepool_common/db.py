"""Database sessions. `Database.transaction()` is the edge: nothing else commits."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Self

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from memepool_common.settings import DatabaseSettings

Session = AsyncConnection
"""A connection inside a transaction. Statements are SQLAlchemy Core or plain SQL, never ORM."""

NOTIFY_INTERVAL_S = 0.005
OUTBOX_CHANNEL = "outbox"
_OUTBOX_WRITTEN = "outbox_written"


class UnsafeRoleError(RuntimeError):
    """The process would run with more rights than an application role has."""


def mark_outbox_written(session: Session) -> None:
    """Ask for the relay to be woken once this session's transaction has committed."""
    session.info[_OUTBOX_WRITTEN] = True


class Database:
    """A pool of connections to the service's own database."""

    def __init__(self, engine: AsyncEngine, settings: DatabaseSettings) -> None:
        self.engine = engine
        self.settings = settings
        self._notify_due = asyncio.Event()
        self._notifier: asyncio.Task[None] | None = None

    @classmethod
    def connect(cls, settings: DatabaseSettings, *, application_name: str = "memepool") -> Self:
        """Open a pool as the application role. No connection is made before the first use."""
        options = " ".join(
            f"-c {name}={int(seconds * 1000)}"
            for name, seconds in (
                ("statement_timeout", settings.statement_timeout_s),
                ("lock_timeout", settings.lock_timeout_s),
                ("idle_in_transaction_session_timeout", settings.idle_in_transaction_timeout_s),
            )
        )
        engine = create_async_engine(
            settings.url.get_secret_value(),
            pool_size=settings.pool_size,
            max_overflow=0,
            pool_timeout=settings.pool_timeout_s,
            pool_pre_ping=False,
            connect_args={
                "options": options,
                "application_name": application_name,
                "connect_timeout": 5,
            },
        )
        return cls(engine, settings)

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
    async def read(self) -> AsyncIterator[Session]:
        """A read-only transaction over one snapshot."""
        async with self.engine.connect() as session:
            await session.execution_options(
                isolation_level="REPEATABLE READ", postgresql_readonly=True
            )
            async with session.begin():
                yield session

    async def ping(self) -> None:
        """Raise when the database does not answer."""
        async with self.engine.connect() as session:
            await session.execute(text("select 1"))

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
        """Close the pool."""
        if self._notifier is not None:
            self._notifier.cancel()
            await asyncio.gather(self._notifier, return_exceptions=True)
        await self.engine.dispose()

    def _wake_relay(self) -> None:
        self._notify_due.set()
        if self._notifier is None or self._notifier.done():
            self._notifier = asyncio.create_task(self._notify_loop(), name="outbox-notifier")

    async def _notify_loop(self) -> None:
        """NOTIFY outside business transactions, at most once per interval.

        A commit that carries a NOTIFY takes a lock on the whole server; this keeps it off the
        hot path. A lost wake-up costs the relay's poll interval, nothing else.
        """
        while True:
            await self._notify_due.wait()
            self._notify_due.clear()
            with contextlib.suppress(Exception):
                async with self.engine.connect() as session:
                    await session.execution_options(isolation_level="AUTOCOMMIT")
                    await session.exec_driver_sql(f"notify {OUTBOX_CHANNEL}")
            await asyncio.sleep(NOTIFY_INTERVAL_S)
