"""The content service as tests use it: its API on a real port, its worker at will."""

import asyncio
import contextlib
import os
import shutil
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import create_engine, text

from memepool_common.db import Database
from memepool_common.events import Event
from memepool_common.events.envelope import from_message, to_message
from memepool_common.server import serving
from memepool_common.settings import AuthnSettings, DatabaseSettings
from memepool_common.testing import TestIssuer, stub_auth, until
from memepool_common.tokens import Principal
from memepool_common.web.app import Probes
from memepool_content import worker
from memepool_content.adapters.image_processor import ImageProcessor
from memepool_content.adapters.media_store import MEDIA, UPLOADS
from memepool_content.app import create_apps
from memepool_content.domain.image import Caps
from memepool_content.settings import (
    ImageSettings,
    JobSettings,
    ProcessorSettings,
    Settings,
    StoreSettings,
)
from memepool_sandbox.inprocess_bus import InProcessBus, create_bus_tables
from services.content.tests.pictures import encoded, meme

TIMEOUT_S = 30.0
ASK_STEP_S = 0.03
OWN_PORT = "http://own"
"""As `AituboSettings.source_base_url`: the port that the service is served on."""
ELSEWHERE = "http://127.0.0.1:1"
ONE_PROCESS = ProcessorSettings(processes=1)
PROMPT = JobSettings(poll_interval_s=0.1, erase_interval_s=0.05)
QUALITY_MIN = ImageSettings().quality_min


@dataclass
class ContentService:
    """A running API with the means to look behind it."""

    settings: Settings
    database: Database
    issuer: TestIssuer
    client: httpx.AsyncClient
    processor: ImageProcessor
    creator: Principal = field(init=False)

    def __post_init__(self) -> None:
        self.creator = self.issuer.principal("creator")

    async def get(self, path: str, caller: Principal | None = None, **more: Any) -> httpx.Response:
        return await self.call("GET", path, caller, **more)

    async def call(
        self, method: str, path: str, caller: Principal | None = None, **more: Any
    ) -> httpx.Response:
        headers = {**(self.issuer.headers(caller) if caller else {}), **more.pop("headers", {})}
        return await self.client.request(method, path, headers=headers, **more)

    async def upload(
        self,
        data: bytes | None = None,
        *,
        caller: Principal | None = None,
        filename: str = "meme.jpg",
        key: str | None = None,
        **fields: Any,
    ) -> httpx.Response:
        """Upload a file (a fine picture unless given) as `creator` unless told otherwise."""
        data = encoded(meme()) if data is None else data
        headers = {"Idempotency-Key": key} if key else {}
        files = {"file": (filename, data, "application/octet-stream")}
        who = caller or self.creator
        return await self.call(
            "POST", "/content/upload", who, files=files, data=fields, headers=headers
        )

    async def settled(self, content_id: str, caller: Principal | None = None) -> dict[str, Any]:
        """The meme, once it has been processed."""
        found: dict[str, Any] = {}

        async def done() -> bool:
            nonlocal found
            answer = await self.get(f"/content/{content_id}", caller or self.creator)
            found = answer.json()
            return bool(found["status"] != "processing")

        await until(done, TIMEOUT_S, ASK_STEP_S)
        return found

    async def processed(self, data: bytes | None = None, **more: Any) -> dict[str, Any]:
        """Upload, and what became of it. Needs a worker."""
        answer = await self.upload(data, **more)
        assert answer.status_code == 202, answer.text
        return await self.settled(answer.json()["id"], more.get("caller"))

    async def events(self) -> list[Event]:
        """All events that were ever announced, in order."""
        async with self.database.read() as session:
            rows = (await session.execute(text("select * from outbox order by seq"))).all()
        return [from_message(to_message(row, "/content")) for row in rows]

    async def count(self, table: str) -> int:
        async with self.database.read() as session:
            query = text(f"select count(*) from {table}")  # noqa: S608 - a test's own words
            return int((await session.execute(query)).scalar_one())

    async def all_erased(self) -> bool:
        """Whether nothing waits to be erased; an entry goes a moment after its object."""
        return await self.count("erasure") == 0

    @property
    def folder(self) -> Path:
        """Where the object store is."""
        assert self.settings.store.folder is not None
        return self.settings.store.folder

    def stored(self, prefix: str = "") -> list[str]:
        """Keys in the object store."""
        return sorted(
            (Path(folder) / name).relative_to(self.folder).as_posix()
            for folder, _, names in os.walk(self.folder / prefix)  # which may vanish meanwhile
            for name in names
        )

    async def forget_all(self) -> None:
        """As if nothing had ever been uploaded."""
        names = "select string_agg(quote_ident(tablename), ',') from pg_tables"
        async with self.database.read() as session:
            tables = await session.execute(
                text(f"{names} where schemaname = 'public' and tablename <> 'alembic_version'")
            )
        await self.as_owner(f"truncate {tables.scalar_one()} restart identity")
        for folder in (UPLOADS, MEDIA):
            shutil.rmtree(self.folder / folder, ignore_errors=True)

    async def as_owner(self, statement: str) -> None:
        """Run a statement under the owner role."""
        await asyncio.to_thread(self._as_owner, statement)

    def _as_owner(self, statement: str) -> None:
        assert self.settings.database.owner_url is not None
        engine = create_engine(self.settings.database.owner_url.get_secret_value())
        with engine.begin() as connection:
            connection.execute(text(statement))
        engine.dispose()

    async def in_all_formats(self) -> bool:
        """Whether nothing is left to be processed."""
        return await self.count("processing_job") == 0

    @contextlib.asynccontextmanager
    async def replica(self) -> AsyncIterator[httpx.AsyncClient]:
        """Another process's API on the same database and store, as its client sees it."""
        public, _ = create_apps(self.settings, Probes())
        async with (
            serving(public, "127.0.0.1", 0) as port,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=TIMEOUT_S) as client,
        ):
            yield client

    @contextlib.asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """The worker, inside the block."""
        assert self.settings.database.owner_url is not None
        owner_url = self.settings.database.owner_url.get_secret_value()
        await asyncio.to_thread(create_bus_tables, owner_url, self.settings.database.app_role)
        bus = InProcessBus(self.database)
        await bus.declare(worker.topology())
        stopping = asyncio.Event()
        working = worker.work(self.settings, self.processor, bus, Probes(), stopping)
        task = asyncio.create_task(working)
        try:
            yield
        finally:
            stopping.set()
            await task


def image_processes() -> ImageProcessor:
    """With the usual limits. They may serve one service after another."""
    return ImageProcessor(ONE_PROCESS, Caps(), QUALITY_MIN)


@contextlib.asynccontextmanager
async def content_service(
    database: DatabaseSettings, folder: Path, processor: ImageProcessor, **groups: Any
) -> AsyncIterator[ContentService]:
    """Serve the API; `groups` replace groups of settings."""
    issuer = TestIssuer()
    store = StoreSettings(folder=folder)
    defaults: dict[str, Any] = {"processor": ONE_PROCESS, "jobs": PROMPT, "store": store}
    async with stub_auth(issuer) as auth_url:
        settings = Settings(
            database=database,
            authn=AuthnSettings(internal_url=auth_url, poll_interval_s=0.05, stale_after_s=60),
            **{**defaults, **groups},
        )
        settings = _reachable(settings)
        probes = Probes()
        public, _ = create_apps(settings, probes)
        own = Database.connect(database)
        async with serving(public, "127.0.0.1", _own_port(settings)) as port:
            await until(lambda: public.state.tokens.state.known)
            url = f"http://127.0.0.1:{port}"
            async with httpx.AsyncClient(base_url=url, timeout=TIMEOUT_S) as client:
                try:
                    yield ContentService(settings, own, issuer, client, processor)
                finally:
                    await own.close()


def _reachable(settings: Settings) -> Settings:
    """The image AI fetches sources from our own port, unless told otherwise."""
    if settings.aitubo is None or settings.aitubo.source_base_url != OWN_PORT:
        return settings
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
    aitubo = settings.aitubo.model_copy(update={"source_base_url": url})
    return settings.model_copy(update={"aitubo": aitubo})


def _own_port(settings: Settings) -> int:
    if settings.aitubo is None or settings.aitubo.source_base_url == ELSEWHERE:
        return 0
    return int(settings.aitubo.source_base_url.rpartition(":")[2])


def problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The problem that the answer is, checked."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["code"] == code
    assert body["status"] == status
    return body


def event_names(events: list[Event]) -> list[str]:
    return [event.type.removeprefix("memepool.content.") for event in events]


Serve = Callable[..., contextlib.AbstractAsyncContextManager[ContentService]]
"""Starts a service with other settings than the usual ones."""
