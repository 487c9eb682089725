"""Checks of configuration values; each raises ConfigError with the field, the value and what is allowed."""

from __future__ import annotations

from genie_robot.errors import ConfigError


def require(ok: bool, name: str, value: object, wanted: str) -> None:
    """Raise unless `ok`: `name` has `value`, which is not `wanted`."""
    if not ok:
        raise ConfigError(f"{name}: got {value!r}, wanted {wanted}")


def positive(config: object, *names: str) -> None:
    """Each of these fields is above 0."""
    for name in names:
        value = getattr(config, name)
        require(value > 0, f"{type(config).__name__}.{name}", value, "a number above 0")


def at_least_zero(config: object, *names: str) -> None:
    """Each of these fields is 0 or more."""
    for name in names:
        value = getattr(config, name)
        require(value >= 0, f"{type(config).__name__}.{name}", value, "0 or more")


def one_of(config: object, name: str, allowed: tuple[str, ...]) -> None:
    """The field is one of the allowed words."""
    value = getattr(config, name)
    require(value in allowed, f"{type(config).__name__}.{name}", value, "one of " + ", ".join(allowed))
