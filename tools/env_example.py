"""Writes .env.example from the settings: what each process must be told, and all that it can be."""

import re
from collections.abc import Iterator, Mapping
from enum import Enum
from importlib import import_module
from types import UnionType
from typing import Any, NamedTuple, Union, get_args, get_origin

import orjson
from pydantic import BaseModel, SecretStr
from pydantic_core import PydanticUndefined

SERVICES = ("auth", "content", "rounds", "payments", "gateway")

HEAD = """\
# Every setting of every process (python -m memepool_<service> api|worker|migrate), written by
# `make contracts` from the settings.py of each service; `make run` needs none of this.
#
# A line that sets something is an example of what must be given; behind a # stand the defaults,
# empty where there is none. Units stand at the ends of names. A test starts every service so.
"""

_XPUB = (
    "xpub661MyMwAqRbcFtXgS5sYJABqqG9YLmC4Q1Rdap9gSE8NqtwybGhePY2gZ29ESFjqJoCu1Rupje8YtGqsefD265TMg"
    "7usUDFdp6W1EGMcet8"
)
_OWN: Mapping[str, Mapping[str, str]] = {
    "auth": {
        "SIGN_IN__DOMAIN": "memepool.example",
        "KEYS__ENCRYPTION_KEY": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    },
    "content": {"STORE__FOLDER": "media"},
    "rounds": {},
    "payments": {"CHAIN__DEPOSIT_XPUB": _XPUB},
    "gateway": {
        "UPSTREAMS__AUTH": "http://localhost:8001",
        "UPSTREAMS__CONTENT": "http://localhost:8002",
        "UPSTREAMS__ROUNDS": "http://localhost:8003",
        "UPSTREAMS__PAYMENTS": "http://localhost:8004",
        "REDIS__URL": "redis://localhost:6379/0",
    },
}
_NOTES = {
    "MEMEPOOL_AUTH_KEYS__ENCRYPTION_KEY": "Make your own: openssl rand -base64 32",
    "MEMEPOOL_PAYMENTS_CHAIN__DEPOSIT_XPUB": (
        "This one is BIP 32's test vector, whose private key everybody knows:"
        " put your own before the first deposit"
    ),
    "MEMEPOOL_GATEWAY_BUS__URL": "The worker writes the live stream; without Redis the API does",
}


class Setting(NamedTuple):
    """One value of an environment. `default` is None where it must be given."""

    name: str
    default: str | None
    description: str
    group: str


def env_example() -> str:
    """The whole file."""
    parts = [HEAD]
    for number, service in enumerate(SERVICES):
        parts.append(f"\n# ---- {service} ----\n")
        parts.append(_of_service(service, number))
    return "".join(parts)


def examples(service: str) -> dict[str, str]:
    """What the file sets for one service."""
    return _given(service, SERVICES.index(service))


def settings_of(service: str) -> list[Setting]:
    """All settings that a service reads, in the order of its settings.py."""
    model = import_module(f"memepool_{service}.settings").Settings
    return list(_walk(model, f"MEMEPOOL_{service.upper()}_", None))


def _of_service(service: str, number: int) -> str:
    given = _given(service, number)
    lines: list[str] = []
    group = ""
    for setting in settings_of(service):
        if setting.group != group:
            group = setting.group
            lines += ["", f"# {group}"]
        notes = [text for text in (setting.description, _NOTES.get(setting.name)) if text]
        lines += [f"# ({note})" for note in notes]
        if setting.name in given:
            lines.append(f"{setting.name}={given.pop(setting.name)}")
        else:
            lines.append(f"#{setting.name}={setting.default or ''}")
    if given:
        raise ValueError(f"{service} has no such settings: {sorted(given)}")
    return "\n".join(lines) + "\n"


def _given(service: str, number: int) -> dict[str, str]:
    """Ports beside each other, a database, a broker's user, and the service's own."""
    port = 8001 + number if service != "gateway" else 8000
    values: dict[str, str] = {
        "HTTP__PORT": str(port),
        "HTTP__INTERNAL_PORT": str(port + 1_000),
        "AUTHN__INTERNAL_URL": "http://localhost:9001",
        "BUS__URL": f"amqp://{service}@localhost:5672/memepool",
    }
    if service != "gateway":
        database = f"localhost:5432/{service}"
        values |= {
            "DATABASE__URL": f"postgresql+psycopg://{service}_app@{database}",
            "DATABASE__OWNER_URL": f"postgresql+psycopg://{service}_owner@{database}",
            "DATABASE__APP_ROLE": f"{service}_app",
        }
    prefix = f"MEMEPOOL_{service.upper()}_"
    return {prefix + name: value for name, value in {**values, **_OWN[service]}.items()}


def _walk(model: type[BaseModel], prefix: str, default: Any) -> Iterator[Setting]:
    described = _attributes(model)
    for name, field in model.model_fields.items():
        full = prefix + name.upper()
        value = getattr(default, name) if isinstance(default, BaseModel) else field.get_default()
        group = group_of(field.annotation)
        if group is not None:
            yield from _walk(group, f"{full}__", value)
            continue
        text = None if value is PydanticUndefined else _text(value)
        description = field.description or described.get(name, "")
        yield Setting(full, text, description, _summary(model))


def group_of(annotation: Any) -> type[BaseModel] | None:
    """The model in an annotation, also in an optional one."""
    options = get_args(annotation) if get_origin(annotation) in {Union, UnionType} else [annotation]
    models = [each for each in options if isinstance(each, type) and issubclass(each, BaseModel)]
    return models[0] if models else None


def _text(value: Any) -> str:
    """A value as an environment has it."""
    if value is None:
        return ""
    if isinstance(value, SecretStr):
        raise TypeError("a secret has no default")
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, bool | tuple | list | dict):
        return orjson.dumps(value).decode()
    return str(value)


def _summary(model: type[BaseModel]) -> str:
    return " ".join((model.__doc__ or "").partition("\n\n")[0].split())


def _attributes(model: type[BaseModel]) -> dict[str, str]:
    """What the `Attributes:` of a docstring say of each field."""
    _, _, section = (model.__doc__ or "").partition("Attributes:\n")
    found: dict[str, str] = {}
    for names, text in re.findall(r"^ {8}(\w[\w, ]*): (.+(?:\n {12}.+)*)", section, re.MULTILINE):
        for name in names.split(", "):
            found[name] = " ".join(text.split()).rstrip(".")
    return found
