"""Settings as the environment variables that they are read from."""

import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, SecretStr


def environment_of(service: str, settings: BaseModel) -> dict[str, str]:
    """`MEMEPOOL_<SERVICE>_<GROUP>__<FIELD>` for all that was set explicitly, secrets in clear."""
    values = settings.model_dump(exclude_unset=True)
    return dict(_flat(f"MEMEPOOL_{service.upper()}_", values))


def _flat(prefix: str, values: Mapping[str, Any]) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for name, value in values.items():
        variable = f"{prefix}{name.upper()}"
        if isinstance(value, Mapping):
            found += _flat(f"{variable}__", value)
        elif value is not None:
            found.append((variable, _text(value)))
    return found


def _text(value: Any) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, list | tuple | bool):
        return json.dumps(value)
    return str(value)
