"""Point the CMake exports of the ROS 2 wheels at this Python: they hold the include paths of their build host.

Idempotent. Run with the Python of the virtual environment that holds the wheels (`build.sh` does).
"""

from __future__ import annotations

import re
import sys
import sysconfig
from pathlib import Path

import numpy

# What the wheels' build host (a manylinux container) wrote, and what it has to say here.
BUILD_HOST_PATHS = (
    (
        re.compile(r"/opt/python/cp\d+-cp\d+/lib/python[\d.]+/site-packages/numpy/_core/include"),
        numpy.get_include(),
    ),
    (re.compile(r"/opt/python/cp\d+-cp\d+/include/python[\d.]+"), sysconfig.get_path("include")),
)


def fix_cmake_exports(prefix: Path) -> int:
    """Rewrite the `share/*/cmake/*.cmake` files under `prefix`; returns how many files changed."""
    changed = 0
    for path in sorted(prefix.glob("share/*/cmake/*.cmake")):
        text = fixed = path.read_text()
        for pattern, here in BUILD_HOST_PATHS:
            fixed = pattern.sub(lambda _, here=here: here, fixed)
        if fixed != text:
            path.write_text(fixed)
            changed += 1
    return changed


def main() -> int:
    """Fix this environment; exit code 1 if the headers that the build needs are missing."""
    header = Path(sysconfig.get_path("include"), "Python.h")
    if not header.is_file():
        print(
            f"fix_wheels: {header} is missing, building the ROS 2 interfaces needs CPython's headers; "
            "install them (Debian, Ubuntu: apt-get install python3-dev)",
            file=sys.stderr,
        )
        return 1
    print(f"fix_wheels: {fix_cmake_exports(Path(sys.prefix))} CMake files changed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
