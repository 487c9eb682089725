"""What a check of `genie-robot ros doctor` found."""

from __future__ import annotations

from typing import NamedTuple


class Finding(NamedTuple):
    """Of which check, how bad (OK, WARN or FAIL), what was found, and what to do about it (empty when all is well)."""

    check: str
    level: str
    found: str
    advice: str = ""

    def line(self) -> str:
        """For a person."""
        return f"{self.level:<4}  {self.check:<13} {self.found}{f' -> {self.advice}' if self.advice else ''}"


def ok(check: str, found: str) -> Finding:
    """All is well."""
    return Finding(check, "OK", found)


def warn(check: str, found: str, advice: str) -> Finding:
    """It works, but not as well as it could, or not as one might think."""
    return Finding(check, "WARN", found, advice)


def fail(check: str, found: str, advice: str) -> Finding:
    """It does not work."""
    return Finding(check, "FAIL", found, advice)
