"""Makes the secrets of a deployment for development, and what follows from them.

    python -m tools.deployment_secrets                # deploy/secrets.env, deploy/compose/
    python -m tools.deployment_secrets --kubernetes   # Secrets for `kubectl apply -f -`

What is there stays, what is missing is made. The files are never committed. In production a secret
store takes this place; the names of the secrets and of their keys are the same.
"""

import argparse
import base64
import json
import os
import secrets
import sys
from pathlib import Path
from typing import Any

from memepool_chain.bip32 import ExtendedPrivateKey
from memepool_chain.network import REGTEST
from memepool_sandbox.rabbitmq_definitions import definitions

ROOT = Path(__file__).resolve().parent.parent
SECRETS = ROOT / "deploy/secrets.env"
DEFINITIONS = ROOT / "deploy/compose/definitions.json"
DATABASES = ("auth", "content", "rounds", "payments")
SERVICES = (*DATABASES, "gateway")
VHOST = "memepool"
NAMESPACE = "memepool-dev"

Document = dict[str, Any]


def make_secrets(existing: dict[str, str]) -> dict[str, str]:
    """All secrets by name: those that exist, and fresh ones for the rest."""
    names = ["POSTGRES_PASSWORD", "REDIS_PASSWORD", "AITUBO_KEY", "CONTENT_SOURCE_KEY"]
    names += [f"{name.upper()}_{role}_PASSWORD" for name in DATABASES for role in ("OWNER", "APP")]
    names += [f"{name.upper()}_BUS_PASSWORD" for name in SERVICES]
    made = {name: secrets.token_hex(24) for name in names}
    made["AUTH_ENCRYPTION_KEY"] = base64.b64encode(secrets.token_bytes(32)).decode()
    made["DEPOSIT_SEED"] = secrets.token_hex(64)
    kept = made | existing
    seed = bytes.fromhex(kept["DEPOSIT_SEED"])
    return kept | {"DEPOSIT_XPUB": str(ExtendedPrivateKey.from_seed(seed, REGTEST).neuter())}


def broker_definitions(known: dict[str, str]) -> Document:
    """What RabbitMQ is started with; passwords are 24 random bytes, hashed."""
    topology = json.loads((ROOT / "contracts/topology.json").read_text())
    passwords = {service: known[f"{service.upper()}_BUS_PASSWORD"] for service in SERVICES}
    return definitions(VHOST, topology, passwords)


def kubernetes_secrets(known: dict[str, str]) -> list[Document]:
    """The Secrets that deploy/k8s refers to, for the dev overlay."""
    found: dict[str, dict[str, str]] = {}
    for service in SERVICES:
        prefix = f"MEMEPOOL_{service.upper()}_"
        password = known[f"{service.upper()}_BUS_PASSWORD"]
        bus = {f"{prefix}BUS__URL": f"amqp://{service}:{password}@rabbitmq:5672/{VHOST}"}
        found[f"{service}-bus"] = bus
    for service in DATABASES:
        for role, name in (("app", "URL"), ("owner", "OWNER_URL")):
            password = known[f"{service.upper()}_{role.upper()}_PASSWORD"]
            url = f"postgresql+psycopg://{service}_{role}:{password}@postgres:5432/{service}"
            found[f"{service}-{role}"] = {f"MEMEPOOL_{service.upper()}_DATABASE__{name}": url}
    found["auth-app"]["MEMEPOOL_AUTH_KEYS__ENCRYPTION_KEY"] = known["AUTH_ENCRYPTION_KEY"]
    found["content-app"]["MEMEPOOL_CONTENT_AITUBO__API_KEY"] = known["AITUBO_KEY"]
    found["content-app"]["MEMEPOOL_CONTENT_AITUBO__SOURCE_KEY"] = known["CONTENT_SOURCE_KEY"]
    found["payments-app"]["MEMEPOOL_PAYMENTS_CHAIN__DEPOSIT_XPUB"] = known["DEPOSIT_XPUB"]
    redis = f"redis://:{known['REDIS_PASSWORD']}@redis:6379/0"
    found["gateway-app"] = {"MEMEPOOL_GATEWAY_REDIS__URL": redis}
    found["redis"] = {"redis.conf": f"requirepass {known['REDIS_PASSWORD']}\n"}
    found["world"] = {"MEMEPOOL_SANDBOX_AITUBO_KEY": known["AITUBO_KEY"]}
    found["postgres"] = {"POSTGRES_PASSWORD": known["POSTGRES_PASSWORD"]}
    found["rabbitmq"] = {"definitions.json": json.dumps(broker_definitions(known))}
    superuser = f"postgresql://postgres:{known['POSTGRES_PASSWORD']}@postgres:5432/postgres"
    found["provision"] = {"MEMEPOOL_SANDBOX_SUPERUSER_URL": superuser} | {
        f"MEMEPOOL_SANDBOX_{service.upper()}__{role}": known[f"{service.upper()}_{role}_PASSWORD"]
        for service in DATABASES
        for role in ("OWNER", "APP")
    }
    return [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "stringData": data,
        }
        for name, data in found.items()
    ]


def read_secrets(path: Path) -> dict[str, str]:
    """The names and values of an environment file; none if there is no file."""
    if not path.exists():
        return {}
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


def write_private(path: Path, text: str, *, mode: int = 0o600) -> None:
    """Put a whole file in place, or nothing."""
    draft = path.with_suffix(".new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    draft.chmod(mode)
    draft.rename(path)


def main() -> int:
    """Make and write; print Secrets where that is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kubernetes", action="store_true", help="print Secrets for kubectl")
    told = parser.parse_args()
    known = make_secrets(read_secrets(SECRETS))
    lines = [f"{name}={value}\n" for name, value in sorted(known.items())]
    write_private(
        SECRETS,
        "# Made by tools/deployment_secrets.py. Keep it: data depend on it.\n" + "".join(lines),
    )
    # The broker's user must be able to read it.
    write_private(DEFINITIONS, json.dumps(broker_definitions(known), indent=1) + "\n", mode=0o644)
    if told.kubernetes:
        items = kubernetes_secrets(known)
        print(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
