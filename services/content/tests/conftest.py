"""Fixtures of the content service. A module's tests share one API and one image process."""

import contextlib
import dataclasses
import inspect
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import structlog

from memepool_common.settings import DatabaseSettings
from memepool_content.adapters.image_processor import ImageProcessor
from services.content.tests.harness import (
    ContentService,
    Serve,
    content_service,
    image_processes,
)
from services.content.tests.studio import Open, Studio, opened_studio


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that need image processes run in their module's event loop, as those do."""
    for item in items:
        names = getattr(item, "fixturenames", ())
        if "processor" in names and inspect.iscoroutinefunction(getattr(item, "obj", None)):
            item.add_marker(pytest.mark.asyncio(loop_scope="module"), append=False)


@pytest.fixture(scope="session", autouse=True)
def plain_log() -> None:
    """Expected errors 500 are logged; drawing every local variable of them takes seconds."""
    renderer = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[structlog.processors.add_log_level, renderer])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def processor() -> AsyncIterator[ImageProcessor]:
    """The module's image process."""
    async with contextlib.aclosing(image_processes()) as processor:
        yield processor


@pytest.fixture
def serve(
    database_settings_for: Callable[..., DatabaseSettings],
    tmp_path: Path,
    processor: ImageProcessor,
) -> Serve:
    """`async with serve(uploads=UploadSettings(...)) as content:`, on a database of its own."""

    def start(**groups: Any) -> Any:
        database = database_settings_for("content")
        return content_service(database, tmp_path / "store", processor, **groups)

    return start


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def _served(
    _databases: Any, tmp_path_factory: pytest.TempPathFactory, processor: ImageProcessor
) -> AsyncIterator[ContentService]:
    folder = tmp_path_factory.mktemp("store")
    database = _databases.make("content", "memepool_content")
    async with content_service(database, folder, processor) as service:
        yield service


@pytest_asyncio.fixture(loop_scope="module")
async def content(_served: ContentService) -> ContentService:
    """The module's service with its usual settings, empty, with a new creator; no worker."""
    await _served.forget_all()
    return dataclasses.replace(_served)


@pytest_asyncio.fixture(loop_scope="module")
async def working(content: ContentService) -> AsyncIterator[ContentService]:
    """The same with its worker."""
    async with content.working():
        yield content


@pytest.fixture
def studio_with(serve: Serve, tmp_path: Path) -> Open:
    """`async with studio_with(timeout_s=1) as studio:`, its worker not running."""
    return partial(opened_studio, serve, tmp_path / "aitubo")


@pytest_asyncio.fixture(loop_scope="module")
async def studio(studio_with: Open) -> AsyncIterator[Studio]:
    """With a worker."""
    async with studio_with() as studio, studio.content.working():
        yield studio
