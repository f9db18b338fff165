import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from memepool_common.events.bus import BusUnavailableError, Message, Topology
from memepool_common.events.rabbitmq import RabbitBus
from memepool_sandbox.rabbitmq_server import RabbitmqServer
from tools.deployment_secrets import (
    ROOT,
    SERVICES,
    VHOST,
    broker_definitions,
    kubernetes_secrets,
    make_secrets,
    read_secrets,
    write_private,
)

FULL_TOPOLOGY: dict[str, list[str]] = json.loads((ROOT / "contracts/topology.json").read_text())


def own_topology(service: str) -> Topology:
    return {k: v for k, v in FULL_TOPOLOGY.items() if k.partition(".")[0] == service}


def test_what_exists_stays_and_what_is_missing_is_made(tmp_path: Path) -> None:
    known = make_secrets({})
    assert len(set(known.values())) == len(known)
    less = {name: value for name, value in known.items() if name != "AITUBO_KEY"}
    again = make_secrets(less)
    assert {name: again[name] for name in less} == less
    assert len(again["AITUBO_KEY"]) == 48
    path = tmp_path / "secrets.env"
    write_private(path, "# note\n" + "".join(f"{k}={v}\n" for k, v in known.items()))
    assert read_secrets(path) == known
    assert path.stat().st_mode & 0o777 == 0o600


def test_no_password_can_be_read_from_the_brokers_file() -> None:
    known = make_secrets({})
    text = json.dumps(broker_definitions(known))
    assert not [name for name, value in known.items() if value in text]
    assert text == json.dumps(broker_definitions(known))


def test_names_of_secrets_are_ignored_by_git() -> None:
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert {"deploy/secrets.env", "deploy/compose/definitions.json"} <= set(ignored)


def test_each_process_is_given_one_role_of_the_database() -> None:
    for secret in kubernetes_secrets(make_secrets({})):
        keys = secret["stringData"].keys()
        if not any("SANDBOX" in key for key in keys):
            assert sum("DATABASE__" in key for key in keys) <= 1


@pytest.fixture
def broker(rabbitmq_server: RabbitmqServer) -> Iterator[dict[str, str]]:
    """A broker that was started from the definitions; gives each service's address."""
    known = make_secrets({})
    rabbitmq_server.import_definitions(broker_definitions(known))
    yield {
        service: str(
            rabbitmq_server.url.with_user(service)
            .with_password(known[f"{service.upper()}_BUS_PASSWORD"])
            .with_path(f"/{VHOST}")
        )
        for service in SERVICES
    }
    rabbitmq_server.forget([VHOST], SERVICES)


async def test_every_service_may_do_its_own_work_and_nothing_else(broker: dict[str, str]) -> None:
    for service, url in broker.items():
        bus = RabbitBus(url, name=f"test {service}")
        try:
            await bus.declare(own_topology(service))
            other = next(name for name in SERVICES if name not in {service, "gateway"})
            own, foreign = (
                Message(uuid4(), f"{name}.thing.happened.v1", {}, b"{}")
                for name in (service, other)
            )
            assert await bus.publish([own]) == [None]
            (refusal,) = await bus.publish([foreign])
            assert isinstance(refusal, BusUnavailableError)
            assert "ACCESS_REFUSED" in repr(refusal)
            for queue in own_topology(service):
                async with bus.subscribe(queue) as inlet, asyncio.timeout(10):
                    assert await inlet.receive(1, 0.01) == []
            for queue in own_topology(other):
                with pytest.raises(BusUnavailableError, match="ACCESS_REFUSED"):
                    async with bus.subscribe(queue):
                        pytest.fail("read somebody else's queue")
            with pytest.raises(BusUnavailableError, match="ACCESS_REFUSED"):
                await bus.declare({f"{other}.new": []})
        finally:
            await bus.close()
