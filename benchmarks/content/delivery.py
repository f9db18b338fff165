"""Delivery of a 200 kB variant against nginx's of the same file, on the same core.

    python -m benchmarks.content.delivery

Needs nginx and wrk (Debian: `apt-get install --no-install-recommends nginx-light wrk`). The service
runs as it does in production: one API process on a real PostgreSQL, a local store. Both servers run
on core 0 and take turns; wrk has core 1.
"""

import asyncio
import contextlib
import multiprocessing
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256
from multiprocessing.connection import Connection
from pathlib import Path
from uuid import UUID

import psutil
import uvloop
from pydantic import SecretStr
from sqlalchemy import text

from memepool_common import telemetry
from memepool_common.db import Database
from memepool_common.ids import uuid7
from memepool_common.migrations import migrate
from memepool_common.server import serving
from memepool_common.settings import AuthnSettings, DatabaseSettings, TelemetrySettings
from memepool_common.testing import TestIssuer, stub_auth, until
from memepool_common.web.app import Probes
from memepool_content.adapters.media_store import MediaStore, media_key
from memepool_content.app import create_apps
from memepool_content.settings import Settings, StoreSettings
from memepool_sandbox.postgres import provision, start_postgres

SIZE_BYTES = 200_000
CONNECTIONS, SECONDS, TURNS = 16, 4, 5
RATIO_MIN = 0.5
SERVER_CORE, LOAD_CORE = 0, 1
START_TIMEOUT_S = 60
_NGINX = """
worker_processes 1; daemon off; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000000;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  types {{ image/jpeg jpg; }}
  server {{ listen 127.0.0.1:{port}; root {folder}/www; }}
}}
"""


async def _a_meme(settings: Settings) -> UUID:
    """A meme that is ready, with one file of `SIZE_BYTES`."""
    content_id, now = uuid7(), datetime.now(UTC)
    with tempfile.NamedTemporaryFile() as file:
        data = os.urandom(SIZE_BYTES)
        file.write(data)
        file.flush()
        digest = sha256(data).hexdigest()
        store = MediaStore(settings.store)
        await store.put(media_key(content_id, digest), Path(file.name))
    database = Database.connect(settings.database)
    values = {"id": content_id, "creator": uuid7(), "now": now, "sha": digest, "size": SIZE_BYTES}
    async with database.transaction() as session:
        await session.execute(
            text(
                "insert into content (id, creator_id, tags, status, version, mime_type, width,"
                " height, frames, size_bytes, sha256, quality, created_at, updated_at) values"
                " (:id, :creator, '{}', 'ready', 1, 'image/jpeg', 1080, 1080, 1, :size, :sha, 1,"
                " :now, :now)"
            ),
            values,
        )
        await session.execute(
            text(
                "insert into variant (content_id, version, name, mime_type, width, height,"
                " size_bytes, sha256) values"
                " (:id, 1, 'full', 'image/jpeg', 1080, 1080, :size, :sha)"
            ),
            values,
        )
    await database.close()
    return content_id


def _serve(pipe: Connection, database: DatabaseSettings, folder: Path) -> None:
    os.sched_setaffinity(0, {SERVER_CORE})
    telemetry.setup("benchmark", TelemetrySettings(log_level="WARNING"))

    async def run() -> None:
        stopping = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
        issuer = TestIssuer()
        async with stub_auth(issuer) as auth_url:
            settings = Settings(
                database=database,
                authn=AuthnSettings(internal_url=auth_url),
                store=StoreSettings(folder=folder),
            )
            content_id = await _a_meme(settings)
            probes = Probes()
            public, _ = create_apps(settings, probes)
            async with serving(public, "127.0.0.1", 0) as port:
                await until(lambda: public.state.tokens.state.known)
                pipe.send((port, f"/content/{content_id}/media/full?v=1"))
                await stopping.wait()

    uvloop.run(run())


@contextlib.contextmanager
def ours(folder: Path) -> Iterator[tuple[psutil.Process, str]]:
    """The content service; its process and the file's address."""
    with start_postgres(folder / "postgres", fsync=True) as server:
        provision(server, "content")
        migrate("memepool_content", server.url("content", "content_owner"), "content_app")
        database = DatabaseSettings(
            url=SecretStr(server.url("content", "content_app")), app_role="content_app"
        )
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        process = context.Process(target=_serve, args=(there, database, folder / "store"))
        process.start()
        try:
            if not here.poll(START_TIMEOUT_S):
                raise TimeoutError("the service did not start")
            port, path = here.recv()
            yield psutil.Process(process.pid), f"http://127.0.0.1:{port}{path}"
        finally:
            process.terminate()
            process.join()


@contextlib.contextmanager
def nginx(folder: Path) -> Iterator[tuple[psutil.Process, str]]:
    """nginx with one worker; the worker's process and the file's address."""
    (folder / "www").mkdir(parents=True)
    (folder / "www" / "full.jpg").write_bytes(os.urandom(SIZE_BYTES))
    folder.chmod(0o755)
    port = 18_555
    (folder / "conf").write_text(_NGINX.format(folder=folder, port=port))
    command = [
        "taskset",
        "-c",
        str(SERVER_CORE),
        "nginx",
        "-c",
        str(folder / "conf"),
        "-g",
        "user root;",
    ]
    master = subprocess.Popen(command)  # noqa: S603 - nginx
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not (children := psutil.Process(master.pid).children()):
            if time.monotonic() > deadline or master.poll() is not None:
                raise TimeoutError("nginx did not start")
            time.sleep(0.05)
        yield children[0], f"http://127.0.0.1:{port}/full.jpg"
    finally:
        master.terminate()
        master.wait()


def load(url: str, seconds: int) -> float:
    """Requests answered per second, whole."""
    command = [
        "taskset",
        "-c",
        str(LOAD_CORE),
        "wrk",
        "-t1",
        f"-c{CONNECTIONS}",
        f"-d{seconds}s",
        url,
    ]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603 - wrk
    if "Non-2xx" in output or "Socket errors" in output:
        raise RuntimeError(output)
    found = re.search(r"Requests/sec:\s*([\d.]+)", output)
    assert found is not None
    return float(found[1])


def measure(servers: dict[str, tuple[psutil.Process, str]]) -> dict[str, tuple[float, float]]:
    """The medians of requests per second and of CPU microseconds per request."""
    rates: dict[str, list[float]] = {name: [] for name in servers}
    costs: dict[str, list[float]] = {name: [] for name in servers}
    for turn in range(TURNS + 1):
        for name, (process, url) in servers.items():
            before_s = sum(process.cpu_times()[:2])
            rate = load(url, SECONDS if turn else 1)
            if turn:
                rates[name].append(rate)
                costs[name].append(
                    (sum(process.cpu_times()[:2]) - before_s) / (rate * SECONDS) * 1e6
                )
    return {
        name: (statistics.median(rates[name]), statistics.median(costs[name])) for name in servers
    }


def main() -> bool:
    """Print the table; whether the goal is met."""
    if not shutil.which("nginx") or not shutil.which("wrk"):
        sys.exit("needs nginx and wrk: apt-get install --no-install-recommends nginx-light wrk")
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        with ours(Path(name, "content")) as content, nginx(Path(name, "nginx")) as reference:
            found = measure({"nginx": reference, "content": content})
    print(f"{SIZE_BYTES / 1000:.0f} kB, {CONNECTIONS} connections, one core each")
    for name, (rate, cost_us) in found.items():
        print(f"{name:10}{rate:>10.0f} requests/s{cost_us:>8.0f} us CPU per request")
    ratio = found["content"][0] / found["nginx"][0]
    print(f"ratio {ratio:.2f} of nginx's throughput, at least {RATIO_MIN}")
    return ratio >= RATIO_MIN


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
