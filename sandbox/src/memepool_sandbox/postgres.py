"""A real PostgreSQL for one machine, with a database and two roles per service.

The cluster, its log and its lock live in one folder under DATA. The server listens on a Unix socket
only, with trust authentication: whoever may enter the socket's folder may be any role. That folder
is closed to other users; the sandbox does not protect against root or the server's own user.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql
from sqlalchemy import URL, make_url

from memepool_sandbox.postgres_cluster import SUPERUSER, Cluster, PostgresError, locked, stop

__all__ = ["PostgresError", "PostgresServer", "RolePasswords", "provision", "start_postgres"]

_ROLE_LOCK = 0x6D656D65  # any constant: serialises provisioning in one cluster


@dataclass(frozen=True)
class PostgresServer:
    """A running cluster, known by the address of its superuser."""

    superuser: URL

    @classmethod
    def at(cls, superuser_url: str) -> "PostgresServer":
        """A server that somebody else runs, e.g. `postgresql://postgres@127.0.0.1:5432/postgres`."""
        return cls(make_url(superuser_url).set(drivername="postgresql+psycopg"))

    def url(self, database: str, user: str) -> str:
        """The SQLAlchemy address of `database` for `user`, with the superuser's password if any."""
        changed = self.superuser.set(database=database, username=user)
        return changed.render_as_string(hide_password=False)

    def superuser_url(self, database: str = SUPERUSER) -> str:
        return self.url(database, self.superuser.username or SUPERUSER)

    @contextmanager
    def administer(self, database: str = SUPERUSER) -> Iterator[psycopg.Connection]:
        """An autocommitting superuser connection, for what cannot run in a transaction."""
        address = make_url(self.superuser_url(database)).set(drivername="postgresql")
        conninfo = address.render_as_string(hide_password=False)
        with psycopg.connect(conninfo, autocommit=True, connect_timeout=10) as connection:
            yield connection


@dataclass(frozen=True)
class RolePasswords:
    """What a service's two roles sign in with."""

    owner: str
    app: str


@contextmanager
def start_postgres(data_dir: Path, *, fsync: bool = True) -> Iterator[PostgresServer]:
    """Run a server on the cluster in `data_dir`, made when absent, until the block ends.

    A server left behind on the same folder by a killed process is stopped first. `fsync=False` is
    for clusters that need not survive a crash of the machine.

    Raises `PostgresError` when the folder is in use or the server does not come up.
    """
    home = data_dir.resolve()
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    with locked(home / "lock"):
        cluster = Cluster.in_home(home)
        cluster.stop_leftovers()
        with cluster.runtime_dir() as runtime:
            process = cluster.start(runtime, fsync=fsync)
            try:
                cluster.wait_until_ready(process)
                address = URL.create(
                    "postgresql+psycopg",
                    username=SUPERUSER,
                    database=SUPERUSER,
                    query={"host": str(runtime / "s")},
                )
                yield PostgresServer(address)
            finally:
                stop(process)


def provision(
    server: PostgresServer,
    service: str,
    *,
    database: str | None = None,
    passwords: RolePasswords | None = None,
) -> None:
    """Give `service` its two roles and its database, called like it; harmless when they exist.

    `<service>_owner` owns the database and runs the migrations. `<service>_app` may connect and use
    the schema, and has nothing else but what migrations grant. PUBLIC has nothing. Without
    `passwords` both roles have the superuser's, if it has one.
    """
    name = database or service
    owner, app = f"{service}_owner", f"{service}_app"
    shared = server.superuser.password
    if passwords is None and shared is not None:
        passwords = RolePasswords(shared, shared)
    with server.administer() as admin:
        admin.execute("select pg_advisory_lock(%s)", [_ROLE_LOCK])
        for role in (owner, app):
            if (
                admin.execute("select 1 from pg_roles where rolname = %s", [role]).fetchone()
                is None
            ):
                login = sql.SQL("create role {} login nosuperuser nocreatedb nocreaterole")
                admin.execute(login.format(sql.Identifier(role)))
            if passwords is not None:
                password = passwords.owner if role == owner else passwords.app
                secret = sql.SQL("alter role {} password {}")
                admin.execute(secret.format(sql.Identifier(role), sql.Literal(password)))
        if admin.execute("select 1 from pg_database where datname = %s", [name]).fetchone() is None:
            create = sql.SQL("create database {} owner {} template template0")
            admin.execute(create.format(*map(sql.Identifier, (name, owner))))
        close = sql.SQL("revoke all on database {} from public")
        admin.execute(close.format(sql.Identifier(name)))
        connect = sql.SQL("grant connect on database {} to {}")
        admin.execute(connect.format(sql.Identifier(name), sql.Identifier(app)))
    with server.administer(name) as admin:
        admin.execute("revoke all on schema public from public")
        admin.execute(sql.SQL("grant usage on schema public to {}").format(sql.Identifier(app)))
