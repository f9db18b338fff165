"""A service's settings from an environment, and names in one that no setting has."""

from importlib import import_module
from types import UnionType
from typing import Any, Union, get_args, get_origin

import pytest
from pydantic import BaseModel


def settings_from(
    service: str, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> Any:
    """The `Settings` of a process that is started with this environment."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return _settings_class(service)()


def unknown_names(service: str, environment: dict[str, str]) -> set[str]:
    """Names that the service would not read: pydantic passes over those in silence."""
    return environment.keys() - _names(_settings_class(service), f"MEMEPOOL_{service.upper()}_")


def _settings_class(service: str) -> Any:
    return import_module(f"memepool_{service}.settings").Settings


def _names(model: type[BaseModel], prefix: str) -> set[str]:
    found: set[str] = set()
    for name, field in model.model_fields.items():
        group = _group(field.annotation)
        full = prefix + name.upper()
        found |= _names(group, f"{full}__") if group else {full}
    return found


def _group(annotation: Any) -> type[BaseModel] | None:
    """The model in an annotation, also in an optional one."""
    options = get_args(annotation) if get_origin(annotation) in {Union, UnionType} else [annotation]
    models = [each for each in options if isinstance(each, type) and issubclass(each, BaseModel)]
    return models[0] if models else None
