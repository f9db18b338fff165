"""The rendered manifests, judged without a cluster: policy, and that all names lead somewhere."""

import json
import re
from collections import Counter
from typing import Any

import pytest
import yaml

from memepool_common.db import STATEMENTS_MAX
from memepool_common.settings import DatabaseSettings, HttpSettings
from memepool_sandbox.launcher.options import parser
from tools.deployment_secrets import DATABASES, NAMESPACE, kubernetes_secrets, make_secrets
from tools.install_member import ROOT
from tools.kubernetes import RENDERED, SOURCES, header
from tools.tests.dockerfiles import dockerfile_of, stages_of
from tools.tests.settings_from import settings_from, unknown_names

Document = dict[str, Any]

SERVICES = (*DATABASES, "gateway")
GRACE_S, PRESTOP_S, CLOSING_S = 45, 5, 10
LISTENERS = 3  # connections of a worker beside its pools
DOCUMENTS: list[Document] = [each for each in yaml.safe_load_all(RENDERED.read_text()) if each]
BY_NAME = {(each["kind"], each["metadata"]["name"]): each for each in DOCUMENTS}
SECRETS: dict[str, dict[str, str]] = {
    each["metadata"]["name"]: each["stringData"] for each in kubernetes_secrets(make_secrets({}))
}
CONFIGURATIONS: dict[str, dict[str, str]] = {
    name: each["data"] for (kind, name), each in BY_NAME.items() if kind == "ConfigMap"
}
WORKLOADS = {
    name: each
    for (kind, name), each in BY_NAME.items()
    if kind in {"Deployment", "StatefulSet", "Job"}
}
OURS = [f"{s}-{role}" for s in DATABASES for role in ("api", "worker", "migrate")]
OURS += ["gateway-api", "gateway-worker"]
RUNNING = [name for name in OURS if not name.endswith("-migrate")]


def pod_of(name: str) -> Document:
    pod: Document = WORKLOADS[name]["spec"]["template"]["spec"]
    return pod


def labels_of(name: str) -> dict[str, str]:
    labels: dict[str, str] = WORKLOADS[name]["spec"]["template"]["metadata"]["labels"]
    return labels


def container_of(name: str) -> Document:
    (container,) = pod_of(name)["containers"]
    found: Document = container
    return found


def environment_of(name: str) -> dict[str, str]:
    environment: dict[str, str] = {}
    for source in container_of(name).get("envFrom", []):
        (kind,) = source
        known = CONFIGURATIONS if kind == "configMapRef" else SECRETS
        more = known[source[kind]["name"]]
        assert not environment.keys() & more.keys()
        environment |= more
    return environment


def selects(selector: Document, labels: dict[str, str]) -> bool:
    """As Kubernetes reads a label selector."""
    exact = selector.get("matchLabels", {}).items() <= labels.items()
    expressions = selector.get("matchExpressions", [])
    assert {each["operator"] for each in expressions} <= {"In"}
    return exact and all(labels.get(each["key"]) in each["values"] for each in expressions)


def test_it_is_rendered_from_what_lies_beside_it() -> None:
    with RENDERED.open() as file:
        assert file.readline() == header(), "run make kubernetes"


def test_every_source_is_yaml_without_a_secret_in_it() -> None:
    for path in SOURCES.rglob("*.yaml"):
        for document in yaml.safe_load_all(path.read_text()):
            assert document["kind"] != "Secret"
            assert "secretGenerator" not in document


def test_it_holds_every_process() -> None:
    assert {*OURS} <= WORKLOADS.keys()
    assert {(each["kind"], each["metadata"]["name"]) for each in DOCUMENTS} == BY_NAME.keys()
    assert len(BY_NAME) == len(DOCUMENTS)
    for each in DOCUMENTS:
        assert each["kind"] == "Namespace" or each["metadata"]["namespace"] == NAMESPACE


@pytest.mark.parametrize("name", OURS)
def test_the_environment_makes_settings(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    service, _, role = name.partition("-")
    environment = environment_of(name)
    assert unknown_names(service, environment) == set()
    settings = settings_from(service, environment, monkeypatch)
    assert (settings.bus is not None) is (role == "worker")
    if service == "gateway":
        assert settings.redis is not None
    else:
        assert (settings.database.owner_url is not None) is (role == "migrate")
        assert settings.database.app_role == f"{service}_app"


def test_no_secret_stands_in_a_configuration_and_all_secrets_are_used() -> None:
    passwords = {value for secret in SECRETS.values() for value in secret.values()}
    assert not [v for each in CONFIGURATIONS.values() for v in each.values() if v in passwords]
    text = json.dumps([pod_of(name) for name in WORKLOADS])
    unused = [name for name in SECRETS if not re.search(rf'"(secretName|name)": "{name}"', text)]
    assert unused == []


@pytest.mark.parametrize("name", WORKLOADS)
def test_secrets_and_configurations_exist(name: str) -> None:
    environment_of(name)
    for volume in pod_of(name).get("volumes", []):
        if "secret" in volume:
            assert volume["secret"]["secretName"] in SECRETS
        elif "configMap" in volume:
            assert volume["configMap"]["name"] in CONFIGURATIONS
        elif "persistentVolumeClaim" in volume:
            claim = volume["persistentVolumeClaim"]["claimName"]
            assert ("PersistentVolumeClaim", claim) in BY_NAME
    mounted = {each["name"] for each in container_of(name)["volumeMounts"]}
    claims = WORKLOADS[name]["spec"].get("volumeClaimTemplates", [])
    declared = {each["name"] for each in pod_of(name)["volumes"]}
    assert mounted == declared | {each["metadata"]["name"] for each in claims}


@pytest.mark.parametrize("name", WORKLOADS)
def test_every_pod_is_restricted(name: str) -> None:
    pod, container = pod_of(name), container_of(name)
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] >= 999
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & pod.keys()
    assert not [volume for volume in pod["volumes"] if "hostPath" in volume]
    assert not [port for port in container.get("ports", []) if "hostPort" in port]
    for kind in ("requests", "limits"):
        assert container["resources"][kind].keys() >= {"cpu", "memory"}
    assert re.search(r":[\w.-]+$", container["image"])
    assert not container["image"].endswith(":latest")


@pytest.mark.parametrize("name", OURS)
def test_the_pod_runs_a_role_of_the_services_image_as_its_user(name: str) -> None:
    service, _, role = name.partition("-")
    container = container_of(name)
    assert container["image"] == f"memepool/{service}:dev"
    assert container["args"] == [role]
    assert "command" not in container
    user = stages_of(dockerfile_of(service))[1].all("USER")
    context = pod_of(name)["securityContext"]
    assert user == [f"{context['runAsUser']}:{context['runAsGroup']}"]
    assert stages_of(dockerfile_of(service))[1].all("WORKDIR") == [
        mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] == "tmp"
    ]


@pytest.mark.parametrize("name", RUNNING)
def test_probes_and_an_end_in_order(name: str) -> None:
    container = container_of(name)
    paths = {"startupProbe": "/startupz", "livenessProbe": "/livez", "readinessProbe": "/readyz"}
    for probe, path in paths.items():
        assert container[probe]["httpGet"] == {"path": path, "port": "internal"}
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    http = HttpSettings()
    wanted = {"internal": http.internal_port}
    assert ports == (wanted | {"http": http.port} if name.endswith("-api") else wanted)
    assert container["lifecycle"] == {"preStop": {"sleep": {"seconds": PRESTOP_S}}}
    assert pod_of(name)["terminationGracePeriodSeconds"] == GRACE_S
    assert PRESTOP_S + http.drain_delay_s + http.drain_timeout_s + CLOSING_S <= GRACE_S


@pytest.mark.parametrize("name", [f"{service}-migrate" for service in DATABASES])
def test_a_migration_ends_by_itself(name: str) -> None:
    job = WORKLOADS[name]["spec"]
    assert pod_of(name)["restartPolicy"] == "Never"
    assert job["backoffLimit"] > 0
    assert job["activeDeadlineSeconds"] >= 600
    assert job["ttlSecondsAfterFinished"] > 0


def test_the_database_has_room_for_everybody_while_all_is_rolled_out() -> None:
    (allowed,) = (
        int(argument.partition("=")[2])
        for argument in container_of("postgres")["args"]
        if argument.startswith("max_connections=")
    )
    pods = [
        spec["replicas"] + spec["strategy"]["rollingUpdate"]["maxSurge"]
        for name, spec in ((name, WORKLOADS[name]["spec"]) for name in RUNNING)
        if not name.startswith("gateway")
    ]
    pool_size: int = DatabaseSettings.model_fields["pool_size"].default
    assert sum(pods) * (pool_size + STATEMENTS_MAX + LISTENERS) <= allowed


@pytest.mark.parametrize("name", RUNNING)
def test_replicas_are_kept_apart_and_up(name: str) -> None:
    spec = WORKLOADS[name]["spec"]
    assert spec["replicas"] == 2
    assert selects(spec["selector"], labels_of(name))
    (spread,) = pod_of(name)["topologySpreadConstraints"]
    assert spread["labelSelector"]["matchLabels"].items() <= labels_of(name).items()
    budget = BY_NAME["PodDisruptionBudget", name]["spec"]
    assert budget["maxUnavailable"] == 1
    assert [each for each in WORKLOADS if selects(budget["selector"], labels_of(each))] == [name]


def test_selectors_find_the_pods_of_one_workload() -> None:
    found = Counter(
        name
        for (kind, _), each in BY_NAME.items()
        if kind in {"Deployment", "StatefulSet"}
        for name in WORKLOADS
        if selects(each["spec"]["selector"], labels_of(name))
    )
    assert set(found.values()) == {1}


def service_pods(name: str) -> list[str]:
    selector = {"matchLabels": BY_NAME["Service", name]["spec"]["selector"]}
    return [each for each in WORKLOADS if selects(selector, labels_of(each))]


@pytest.mark.parametrize("name", [name for kind, name in BY_NAME if kind == "Service"])
def test_a_service_has_pods_with_its_ports(name: str) -> None:
    (workload,) = service_pods(name)
    ports = container_of(workload)["ports"]
    known = {port["name"] for port in ports} | {port["containerPort"] for port in ports}
    for port in BY_NAME["Service", name]["spec"]["ports"]:
        assert port.get("targetPort", port["port"]) in known


def addresses_of(name: str) -> set[tuple[str, int]]:
    """Host and port of every URL that a process is told."""
    pattern = r"\w+(?:\+\w+)?://(?:[^@/]+@)?([\w.-]+):(\d+)(?:/.*)?"
    found = [re.fullmatch(pattern, value) for value in environment_of(name).values()]
    return {(each[1], int(each[2])) for each in found if each}


def allows(rules: list[Document], peer: str, port: int, side: str) -> bool:
    """Whether a policy's rules let through to or from the pods of a workload."""
    return any(
        {"port": port} in [{"port": each["port"]} for each in rule["ports"]]
        and (
            side not in rule
            or any(
                selects(each["podSelector"], labels_of(peer))
                for each in rule[side]
                if "podSelector" in each
            )
        )
        for rule in rules
    )


def permitted(source: str, target: str, port: int) -> bool:
    out = into = False
    for (kind, _), each in BY_NAME.items():
        if kind != "NetworkPolicy":
            continue
        spec = each["spec"]
        if selects(spec["podSelector"], labels_of(source)):
            out = out or allows(spec.get("egress", []), target, port, "to")
        if selects(spec["podSelector"], labels_of(target)):
            into = into or allows(spec.get("ingress", []), source, port, "from")
    return out and into


@pytest.mark.parametrize("name", [*OURS, "provision"])
def test_the_network_lets_a_process_reach_just_what_it_uses(name: str) -> None:
    used: set[tuple[str, int]] = set()
    for host, port in addresses_of(name):
        if host == "127.0.0.1":
            assert (name.partition("-")[0], port) == ("auth", 9000)
            continue
        (target,) = service_pods(host)
        assert port in {each["port"] for each in BY_NAME["Service", host]["spec"]["ports"]}
        used.add((target, port))
    listening = {
        (target, port["containerPort"])
        for target in WORKLOADS
        for port in container_of(target).get("ports", [])
    }
    assert used <= listening
    reachable = {each for each in listening if each[0] != name and permitted(name, *each)}
    role = name.partition("-")[2]
    # All roles are told the same; only an API checks tokens, only a worker asks the world, and the
    # API's own address is for the world.
    world = {8090, 8091}
    unasked = {"api": world, "worker": {8000, 9000}, "migrate": {*world, 8000, 9000}}
    needed = {each for each in used if each[1] not in unasked.get(role, set()) and each[0] != name}
    assert needed <= reachable
    shared = {("world", 8090), ("world", 8091)}  # dev: all workers
    assert reachable - used - shared == set()


def test_the_default_is_to_deny() -> None:
    spec = BY_NAME["NetworkPolicy", "deny-all"]["spec"]
    assert spec == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def test_only_workers_that_ask_the_chain_or_the_image_ai_reach_the_internet() -> None:
    policies = [
        each["spec"]
        for (kind, _), each in BY_NAME.items()
        if kind == "NetworkPolicy" and "ipBlock" in json.dumps(each)
    ]
    reached = {
        n for n in WORKLOADS for each in policies if selects(each["podSelector"], labels_of(n))
    }
    assert reached == {"content-worker", "rounds-worker", "payments-worker"}


def test_the_worlds_and_provisioning_commands_exist() -> None:
    for name in ("world", "provision"):
        assert container_of(name)["image"] == "memepool/sandbox:dev"
        assert parser().parse_args(container_of(name)["args"]).command == name


def test_the_namespace_refuses_pods_that_are_not_restricted() -> None:
    labels = BY_NAME["Namespace", NAMESPACE]["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    assert (ROOT / "deploy/k8s/overlays/dev/namespace.yaml").is_file()
