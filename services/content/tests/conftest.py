"""Fixtures of the content service."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import structlog

from memepool_common.settings import DatabaseSettings
from services.content.tests.harness import ContentService, Serve, content_service


@pytest.fixture(scope="session", autouse=True)
def plain_log() -> None:
    """Expected errors 500 are logged; drawing every local variable of them takes seconds."""
    renderer = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[structlog.processors.add_log_level, renderer])


@pytest.fixture
def serve(database_settings_for: Callable[..., DatabaseSettings], tmp_path: Path) -> Serve:
    """`async with serve(uploads=UploadSettings(...)) as content:`"""

    def start(**groups: Any) -> Any:
        return content_service(database_settings_for("content"), tmp_path / "store", **groups)

    return start


@pytest.fixture
async def content(serve: Serve) -> AsyncIterator[ContentService]:
    """The service with its usual settings, without a worker."""
    async with serve() as service:
        yield service


@pytest.fixture
async def working(content: ContentService) -> AsyncIterator[ContentService]:
    """The service with its worker."""
    async with content.working():
        yield content
