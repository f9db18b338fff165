"""Alembic migrations under the owner role, one runner at a time, with short locks.

A service keeps plain revisions in `memepool_<service>/migrations/versions/` and an `env.py` that
only calls `run_env`. Roll-out is expand-contract: a migration must work with the code before it.
"""

from importlib.resources import as_file, files

from alembic import command, context
from alembic.config import Config
from sqlalchemy import create_engine, text

LOCK_TIMEOUT_MS = 5_000
STATEMENT_TIMEOUT_MS = 60_000
_ADVISORY_LOCK = 7_221_001  # any constant: advisory locks are per database


def migrate(package: str, owner_url: str, app_role: str, revision: str = "head") -> None:
    """Bring the database of `package` (say `memepool_auth`) up to a revision.

    Waits while another runner migrates the same database. A failed revision leaves those before
    it applied and nothing of its own. Not for use on an event loop: it blocks.
    """
    _run(package, owner_url, app_role, revision, up=True)


def downgrade(package: str, owner_url: str, app_role: str, revision: str) -> None:
    """Take a database back to a revision (`base` for none): for tests and for emergencies."""
    _run(package, owner_url, app_role, revision, up=False)


def run_env() -> None:
    """The body of every service's `env.py`: one transaction per revision, on our connection."""
    connection = context.config.attributes["connection"]
    context.configure(connection=connection, transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()


def _config(folder: str) -> Config:
    config = Config()
    config.set_main_option("script_location", folder.replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _run(package: str, owner_url: str, app_role: str, revision: str, *, up: bool) -> None:
    engine = create_engine(owner_url)
    try:
        with as_file(files(package) / "migrations") as folder, engine.connect() as lock:
            lock.execute(text("select pg_advisory_lock(:id)"), {"id": _ADVISORY_LOCK})
            config = _config(str(folder))
            config.attributes["app_role"] = app_role
            with engine.connect() as connection:
                connection.execute(text(f"set lock_timeout = {LOCK_TIMEOUT_MS}"))
                connection.execute(text(f"set statement_timeout = {STATEMENT_TIMEOUT_MS}"))
                connection.commit()
                config.attributes["connection"] = connection
                if up:
                    command.upgrade(config, revision)
                else:
                    command.downgrade(config, revision)
    finally:
        engine.dispose()
