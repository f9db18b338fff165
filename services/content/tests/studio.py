"""The service with a simulated AITubo beside it, over real HTTP."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from starlette.types import Receive, Scope, Send

from memepool_common.server import serving
from memepool_common.testing import until
from memepool_content.settings import AituboSettings
from memepool_sandbox.aitubo.app import AituboSettings as SimulatorSettings
from memepool_sandbox.aitubo.app import create_aitubo_app
from memepool_sandbox.faults import Faults
from services.content.tests.harness import (
    ASK_STEP_S,
    OWN_PORT,
    PROMPT,
    TIMEOUT_S,
    ContentService,
    Serve,
)

WANTED = {"prompt": "as a painting", "strength": 0.9}
CREATE, GET, IMAGES = "/api/job/create", "/api/job/get", "/images"
MODELS = "/api/model/list"


@dataclass
class Hold:
    """Requests wait: the first has arrived, all may go on."""

    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    released: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass
class Studio:
    """The service, its worker not running, and the simulated AITubo with a fault switch."""

    content: ContentService
    faults: Faults
    holds: dict[str, "Hold"]
    folder: Path

    def hold(self, path: str) -> "Hold":
        """From now on AITubo answers nothing there, until it is released."""
        self.holds[path] = Hold()
        return self.holds[path]

    async def start(self, content_id: str, **body: Any) -> str:
        """Ask for a transformation; the job's address."""
        path = f"/content/{content_id}/transform"
        answer = await self.content.call(
            "POST", path, self.content.creator, json={**WANTED, **body}
        )
        assert answer.status_code == 202, answer.text
        assert answer.json()["state"] == "queued"
        return answer.headers["Location"]

    async def ended(self, address: str) -> dict[str, Any]:
        """The job, once it is done or failed."""
        found: dict[str, Any] = {}

        async def over() -> bool:
            nonlocal found
            found = (await self.content.get(address, self.content.creator)).json()
            return found["state"] in {"done", "failed"}

        await until(over, TIMEOUT_S, ASK_STEP_S)
        return found

    async def transformed(self, content_id: str, **body: Any) -> dict[str, Any]:
        return await self.ended(await self.start(content_id, **body))

    async def read(self, content_id: str) -> dict[str, Any]:
        return dict((await self.content.get(f"/content/{content_id}", self.content.creator)).json())

    def submissions(self) -> int:
        """How many jobs AITubo has ever taken."""
        return len(list(self.folder.glob("*.json")))


Open = Callable[..., contextlib.AbstractAsyncContextManager[Studio]]
"""Opens a studio; the values replace settings of AITubo."""


@contextlib.asynccontextmanager
async def opened_studio(
    serve: Serve, folder: Path, *, job_s: float = 0.0, **values: Any
) -> AsyncIterator[Studio]:
    """A service and an AITubo that keeps its jobs in `folder`."""
    # No answer comes after `timeout_s`. That we wait no longer than we say: `test_aitubo`.
    faults, holds = Faults(slow_s=0.3, timeout_s=0.3), dict[str, Hold]()
    simulator = create_aitubo_app(
        folder, SimulatorSettings(api_key=SecretStr("api-test"), job_s=job_s), faults
    )

    async def gated(scope: Scope, receive: Receive, send: Send) -> None:
        for path, hold in holds.items():
            if scope.get("path", "").startswith(path):
                hold.arrived.set()
                await hold.released.wait()
        await simulator(scope, receive, send)

    async with serving(gated, "127.0.0.1", 0) as port:
        settings = aitubo_settings(f"http://127.0.0.1:{port}", **values)
        jobs = PROMPT.model_copy(update={"retry_delay_s": 0.05})
        async with serve(aitubo=settings, jobs=jobs) as content:
            yield Studio(content, faults, holds, folder)


def aitubo_settings(url: str, **values: Any) -> AituboSettings:
    usual: dict[str, Any] = {
        "base_url": url,
        "api_key": SecretStr("api-test"),
        "timeout_s": TIMEOUT_S,
        "connect_timeout_s": TIMEOUT_S,
        "poll_interval_s": 0.05,
        "poll_interval_max_s": 0.2,
        "retry_delay_s": 0.05,
        "open_s": 0.2,
        "result_origins": (url,),
        "source_base_url": OWN_PORT,
        "source_key": SecretStr("k" * 32),
    }
    return AituboSettings(**{**usual, **values})
