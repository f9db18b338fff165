"""Pytest fixtures: a Redis, empty at the start of each test.

It is the one at `MEMEPOOL_TEST_REDIS` (`redis://host:port`; each test process empties a database of
its own there), else a private instance of the installed binary, one per test process.
"""

import os
import shutil
from collections.abc import Iterator

import pytest
from yarl import URL

from memepool_sandbox.redis_server import PrivateRedis, command

VARIABLE = "MEMEPOOL_TEST_REDIS"


@pytest.fixture(scope="session")
def private_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateRedis]:
    """A Redis of our own, that a test may stop; it must be up again when the test ends."""
    folder = tmp_path_factory.mktemp("redis")
    server = PrivateRedis(folder)
    server.start()
    yield server
    server.stop()
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def redis_server_url(request: pytest.FixtureRequest) -> str:
    """A Redis for a whole module."""
    given = os.environ.get(VARIABLE)
    return given or str(request.getfixturevalue("private_redis").url)


@pytest.fixture
def redis_url(request: pytest.FixtureRequest) -> str:
    """The address of an empty database."""
    given = os.environ.get(VARIABLE)
    if given:
        worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0")
        url = str(URL(given).with_path(f"/{worker.removeprefix('gw')}"))
    else:
        url = request.getfixturevalue("private_redis").url
    command(url, "FLUSHDB")
    return url
