"""Alembic's entry: everything is in the library."""

from memepool_common.migrations import run_env

run_env()
