"""Pytest fixtures: a RabbitMQ, and a vhost of one's own in it for each test.

The broker is the one at `MEMEPOOL_TEST_RABBITMQ` (an administrator's `amqp://` address), else a
private instance of the installed binaries, one per test process.
"""

import itertools
import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from memepool_sandbox.rabbitmq_server import (
    PrivateRabbitmq,
    RabbitmqServer,
    rabbitmq_program,
)
from memepool_sandbox.server_programs import require_program

VARIABLE = "MEMEPOOL_TEST_RABBITMQ"
VHOSTS_AT_ONCE = 8  # an import takes most of a second, whatever is in it
PASSWORD = "test"  # noqa: S105 - of users that live as long as a test


@dataclass(frozen=True)
class Vhost:
    """A fresh vhost; its users may do anything in it, and nothing outside."""

    server: RabbitmqServer
    name: str

    def user(self, service: str) -> str:
        """The broker's user of a service, in this vhost."""
        return f"{self.name}-{service}"

    def url(self, service: str) -> str:
        """The address for a service. Services are `USERS`."""
        return str(
            self.server.url.with_user(self.user(service))
            .with_password(PASSWORD)
            .with_path(f"/{self.name}")
        )


USERS = ("sample", "auth", "content", "rounds", "payments", "gateway", "narrator")


class Vhosts:
    """Makes vhosts, several at once."""

    def __init__(self, server: RabbitmqServer) -> None:
        self._server = server
        self._prefix = f"test-{secrets.token_hex(4)}"  # test processes may share a server
        self._numbers = itertools.count()
        self._spare: list[Vhost] = []
        self.made: list[Vhost] = []

    def take(self) -> Vhost:
        """A fresh one."""
        if not self._spare:
            names = [f"{self._prefix}-{next(self._numbers)}" for _ in range(VHOSTS_AT_ONCE)]
            self._spare = [Vhost(self._server, name) for name in names]
            users = [(vhost, vhost.user(service)) for vhost in self._spare for service in USERS]
            may = {"configure": ".*", "write": ".*", "read": ".*"}
            self._server.import_definitions(
                {
                    "vhosts": [{"name": name} for name in names],
                    "users": [{"name": u, "password": PASSWORD, "tags": ""} for _, u in users],
                    "permissions": [{"user": u, "vhost": v.name} | may for v, u in users],
                }
            )
            self.made += self._spare
        return self._spare.pop()


@pytest.fixture(scope="session")
def private_rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateRabbitmq]:
    """A broker of our own, that a test may kill; it must be up again when the test ends."""
    if rabbitmq_program() is None:
        require_program("rabbitmq-server", "rabbitmq-server", VARIABLE)
    folder = tmp_path_factory.mktemp("rabbitmq")
    server = PrivateRabbitmq(folder)
    server.start()
    yield server
    server.kill()
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def rabbitmq_server(request: pytest.FixtureRequest) -> RabbitmqServer:
    """A running broker."""
    given = os.environ.get(VARIABLE)
    if given:
        return RabbitmqServer.at(given)
    private: PrivateRabbitmq = request.getfixturevalue("private_rabbitmq")
    return private


@pytest.fixture(scope="session")
def _rabbitmq_vhosts(rabbitmq_server: RabbitmqServer) -> Iterator[Vhosts]:
    vhosts = Vhosts(rabbitmq_server)
    yield vhosts
    if not isinstance(rabbitmq_server, PrivateRabbitmq):  # a private one goes as a whole
        users = [vhost.user(service) for vhost in vhosts.made for service in USERS]
        rabbitmq_server.forget([vhost.name for vhost in vhosts.made], users)


@pytest.fixture
def rabbitmq_vhost(_rabbitmq_vhosts: Vhosts) -> Vhost:
    """A vhost that no other test has seen."""
    return _rabbitmq_vhosts.take()
