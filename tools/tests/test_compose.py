"""docker-compose.yml, judged without Docker: every process would start with what it is told."""

import json
import re
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from memepool_sandbox.launcher.options import parser
from memepool_sandbox.postgres import start_postgres
from memepool_sandbox.provisioning import ProvisionSettings, provision_all
from memepool_sandbox.world import WorldSettings
from tools.deployment_secrets import DATABASES, ROOT, broker_definitions, make_secrets
from tools.tests.dockerfiles import stages_of
from tools.tests.settings_from import settings_from, unknown_names

SECRETS = make_secrets({})
INTERPOLATED = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")
SERVERS = {"postgres", "rabbitmq", "redis"}
OWN_SERVICES = (*DATABASES, "gateway")

Service = dict[str, Any]


def interpolate(value: Any) -> Any:
    """What compose makes of a value, given the environment file of our tool and nothing else."""

    def replaced(match: re.Match[str]) -> str:
        name, kind, rest = match.groups()
        assert name in SECRETS or kind == "-", f"{name} is neither made nor has it a default"
        return SECRETS.get(name, rest)

    match value:
        case str():
            return INTERPOLATED.sub(replaced, value)
        case dict():
            return {name: interpolate(each) for name, each in value.items()}
        case list():
            return [interpolate(each) for each in value]
        case _:
            return value


FILE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, Service] = interpolate(FILE["services"])
PROCESSES = {
    name: service for name, service in SERVICES.items() if name.partition("-")[0] in OWN_SERVICES
}


def environment_of(service: Service) -> dict[str, str]:
    return {name: str(value) for name, value in service.get("environment", {}).items()}


def member_of(name: str) -> str:
    return name.partition("-")[0]


def test_it_holds_every_process_and_server() -> None:
    wanted = {*SERVERS, "world", "provision", *OWN_SERVICES}
    wanted |= {f"{name}-migrate" for name in DATABASES}
    wanted |= {f"{name}-worker" for name in OWN_SERVICES}
    assert SERVICES.keys() == wanted


@pytest.mark.parametrize("name", PROCESSES)
def test_the_environment_makes_settings(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    environment, member = environment_of(SERVICES[name]), member_of(name)
    assert unknown_names(member, environment) == set()
    settings = settings_from(member, environment, monkeypatch)
    role = SERVICES[name]["command"][0]
    assert (settings.bus is not None) is (role == "worker")
    if member == "gateway":
        assert settings.redis is not None
    else:
        assert (settings.database.owner_url is not None) is (role == "migrate")


@pytest.mark.parametrize("name", PROCESSES)
def test_addresses_lead_to_services_that_are_there(name: str) -> None:
    """Host and port of every URL: an API, an internal port, a server, or the process itself."""
    ports = {name: {8000, 9000} for name in OWN_SERVICES}
    ports |= {
        "postgres": {5432},
        "rabbitmq": {5672},
        "redis": {6379},
        "world": {8090, 8091},
        "127.0.0.1": {9000},
    }
    for value in environment_of(SERVICES[name]).values():
        address = re.fullmatch(r"\w+(?:\+\w+)?://(?:[^@/]+@)?([\w.]+):(\d+)(/.*)?", value)
        if address:
            assert int(address[2]) in ports[address[1]], value
            assert (address[1] == "127.0.0.1") is (member_of(name) == "auth" and "9000" in value)


def test_a_password_opens_the_door_it_is_made_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in environment_of(SERVICES["provision"]).items():
        monkeypatch.setenv(key, value)
    given = ProvisionSettings()
    users = {user["name"] for user in broker_definitions(SECRETS)["users"]}
    for name, service in PROCESSES.items():
        member = member_of(name)
        for key, value in environment_of(service).items():
            url = re.fullmatch(r"[\w+]+://(\w+):(\w+)@\w+:\d+/(\w+)", value)
            if key.endswith("BUS__URL"):
                assert url
                assert url.groups() == (
                    member,
                    SECRETS[f"{member.upper()}_BUS_PASSWORD"],
                    "memepool",
                )
                assert member in users
            elif "DATABASE__" in key and url:
                role = url[1].removeprefix(f"{member}_")
                assert role == ("owner" if "OWNER" in key else "app")
                password = getattr(getattr(given, member), role).get_secret_value()
                assert (url[2], url[3]) == (password, member)


@pytest.mark.parametrize("name", SERVICES)
def test_every_container_is_bounded_and_watched(name: str) -> None:
    service = SERVICES[name]
    assert re.fullmatch(r"\d+[mg]", service["mem_limit"])
    job = name.endswith("-migrate") or name == "provision"
    assert service["restart"] == ("on-failure:5" if job else "unless-stopped")
    assert service["healthcheck"].get("disable", False) is job
    for port in service.get("ports", []):
        assert port.startswith("127.0.0.1:")
    if name not in SERVERS:
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["stop_grace_period"] == "45s"
    else:
        assert re.fullmatch(r"(\w+):\d+(\.\d+)?(-\w+)?", service["image"])


@pytest.mark.parametrize("name", [name for name in SERVICES if name not in SERVERS])
def test_the_command_is_one_that_the_image_knows(name: str) -> None:
    service = SERVICES[name]
    member = service["image"].removeprefix("memepool/")
    assert member == ("sandbox" if name in {"world", "provision"} else member_of(name))
    builders = [
        n for n, each in SERVICES.items() if "build" in each and each["image"] == service["image"]
    ]
    assert len(builders) == 1
    built = SERVICES[builders[0]]["build"]
    assert built["context"] == "."
    (entry,) = stages_of(ROOT / built["dockerfile"])[1].all("ENTRYPOINT")
    assert json.loads(entry)[-1] == f"memepool_{member}"
    assert ("build" in service) is not (service.get("pull_policy") == "never")
    command = service["command"]
    if member == "sandbox":
        assert parser().parse_args(command).command == name
    else:
        assert command == [name.partition("-")[2] or "api"]


def test_the_order_of_starting_has_no_circle_and_waits_for_the_right_thing() -> None:
    waits = {n: cast("dict[str, Any]", each.get("depends_on", {})) for n, each in SERVICES.items()}
    for name in PROCESSES:
        if not name.endswith("-migrate") and member_of(name) != "gateway":
            assert waits[name][f"{member_of(name)}-migrate"] == {
                "condition": "service_completed_successfully"
            }
        uses = {"rabbitmq"} if "BUS__URL" in str(SERVICES[name]["environment"]) else set()
        assert all(waits[name][each] == {"condition": "service_healthy"} for each in uses)
    done: set[str] = set()
    while len(done) < len(waits):
        ready = {name for name in waits if name not in done and waits[name].keys() <= done}
        assert ready, f"these wait for each other: {waits.keys() - done}"
        done |= ready


def test_every_job_is_waited_for_by_something_that_runs_on() -> None:
    """Else `up --wait` would take a job that has ended well for a process that is gone."""
    jobs = {name for name in SERVICES if name.endswith("-migrate") or name == "provision"}
    for job in jobs:
        waiting = {
            name
            for name, service in SERVICES.items()
            if service.get("depends_on", {}).get(job)
            == {"condition": "service_completed_successfully"}
        }
        assert waiting - jobs, job


def test_volumes_are_declared_and_written_files_exist() -> None:
    for name, service in SERVICES.items():
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            if source.startswith("./"):
                made = source == "./deploy/compose/definitions.json"
                assert made or (ROOT / source).is_file(), name
                assert volume.endswith(":ro")
            else:
                assert source in FILE["volumes"]


def test_the_world_is_told_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in environment_of(SERVICES["world"]).items():
        monkeypatch.setenv(key, value)
    assert WorldSettings().aitubo_key.get_secret_value() == SECRETS["AITUBO_KEY"]
    told = parser().parse_args(SERVICES["world"]["command"])
    assert (told.host, told.port, told.data) == ("0.0.0.0", 8090, Path("/var/lib/memepool"))


def test_provisioning_sets_the_passwords_and_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a cluster of its own: passwords belong to roles, which are a whole cluster's."""
    for key, value in environment_of(SERVICES["provision"]).items():
        monkeypatch.setenv(key, value)
    with start_postgres(tmp_path, fsync=False) as server:
        monkeypatch.setenv("MEMEPOOL_SANDBOX_SUPERUSER_URL", server.superuser_url())
        assert provision_all() == 0
        assert provision_all() == 0
        query = (
            "select d.datname, r.rolname, a.rolname, a.rolpassword is not null"
            " from pg_database d join pg_roles r on r.oid = d.datdba"
            " join pg_authid a on a.rolname = d.datname || '_app' order by 1"
        )
        with server.administer() as admin:
            found = admin.execute(query).fetchall()
    assert found == [(n, f"{n}_owner", f"{n}_app", True) for n in sorted(DATABASES)]
