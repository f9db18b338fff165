"""Fixtures of payments' tests."""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import pytest_asyncio
import structlog

from memepool_common.db import Database
from memepool_payments.use_cases import transfers
from services.payments.tests.books import Books
from services.payments.tests.site import Site, open_site


@pytest.fixture(autouse=True, scope="session")
def _plain_logs() -> None:
    """Structlog's own default draws tracebacks for seconds; a service never runs with it."""
    plain: list[structlog.typing.Processor] = [
        structlog.processors.format_exc_info,
        structlog.processors.KeyValueRenderer(),
    ]
    structlog.configure(processors=plain)


@pytest_asyncio.fixture
async def books(database_for: Callable[..., Awaitable[Database]]) -> AsyncIterator[Books]:
    """A fresh ledger; when the test ends every invariant must hold."""
    made = Books(await database_for("payments"))
    yield made
    await made.check()


@pytest_asyncio.fixture
async def site(books: Books, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    """The service over HTTP; unknown recipients are not waited for long."""
    monkeypatch.setattr(transfers, "WAIT_S", 0.1)
    async with open_site(books) as opened:
        yield opened
