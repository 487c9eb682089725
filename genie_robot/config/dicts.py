"""Configurations as nested dicts, and back."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar, get_type_hints

from genie_robot.errors import ConfigError

T = TypeVar("T")


def to_dict(config: Any) -> dict[str, Any]:
    """Plain nested dict of a config, with lists instead of tuples (as YAML stores it)."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: plain(item) for key, item in value.items()}
        return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value

    return plain(dataclasses.asdict(config))


def from_dict(cls: type[T], values: Mapping[str, Any], where: str = "") -> T:
    """Build config `cls` from nested plain values. Unknown keys and wrong types raise ConfigError."""
    hints = get_type_hints(cls)
    unknown = sorted(set(values) - set(hints))
    if unknown:
        raise ConfigError(
            f"{where or cls.__name__}: unknown field {unknown[0]!r}, known are {', '.join(hints)}"
        )
    arguments: dict[str, Any] = {}
    for name, value in values.items():
        hint, path = hints[name], f"{where}.{name}" if where else name
        if dataclasses.is_dataclass(hint):
            if not isinstance(value, Mapping):
                raise ConfigError(f"{path}: got {value!r}, wanted a group of fields")
            arguments[name] = from_dict(hint, value, path)  # type: ignore[arg-type]
        else:
            arguments[name] = _convert(hint, value, path)
    return cls(**arguments)


def _convert(hint: Any, value: Any, path: str) -> Any:
    if getattr(hint, "__origin__", None) is tuple:
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{path}: got {value!r}, wanted a list")
        return tuple(value)
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is float and number:
        return float(value)
    if isinstance(value, hint) and (hint is not int or not isinstance(value, bool)):
        return value
    raise ConfigError(f"{path}: got {value!r}, wanted {hint.__name__}")
