"""A service's settings from an environment, and names in one that no setting has."""

from importlib import import_module
from typing import Any

import pytest

from tools.env_example import settings_of


def settings_from(
    service: str, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> Any:
    """The `Settings` of a process that is started with this environment."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return import_module(f"memepool_{service}.settings").Settings()


def unknown_names(service: str, environment: dict[str, str]) -> set[str]:
    """Names that the service would not read: pydantic passes over those in silence."""
    return environment.keys() - {setting.name for setting in settings_of(service)}
