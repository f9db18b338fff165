"""Fixtures of payments' tests."""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest_asyncio

from memepool_common.db import Database
from services.payments.tests.books import Books


@pytest_asyncio.fixture
async def books(database_for: Callable[..., Awaitable[Database]]) -> AsyncIterator[Books]:
    """A fresh ledger; when the test ends every invariant must hold."""
    made = Books(await database_for("payments"))
    yield made
    await made.check()
