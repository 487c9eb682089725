"""Checks of `genie-robot ros doctor` that need no ROS: which installation this is, and what the machine allows."""

from __future__ import annotations

import ctypes
import importlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import genie_robot
from genie_robot.cli._findings import Finding, fail, ok, warn
from genie_robot.cli._ros_package import HOW_TO_BUILD

#: how a ROS 2 distribution is called, in paths and in the names of wheels
_DISTRO = re.compile(r"ros-([a-z]+)-rclpy")
_ASK_RCLPY = "from rclpy.utilities import get_rmw_implementation_identifier as ask; print(ask())"
_RANGES = ("SUBNET", "LOCALHOST", "OFF", "SYSTEM_DEFAULT")
_MAX_DOMAIN, _MAX_SAFE_DOMAIN = 232, 101
#: first of the two UDP ports (discovery, data) that go together, counted from a domain's first: multicast, then those of
#: its first ten participants
_PORT_PAIRS = (0, *range(10, 30, 2))
_TIME_ERROR = 5  # adjtimex: the kernel's clock is not synchronised
_MIN_UDP_BYTES = 2 * 2**20
_MIN_LOG_BYTES = 500 * 2**20


def check_environment() -> Iterator[Finding]:
    """All of them, in the order in which they make sense."""
    yield from _installation()
    yield from _packages()
    yield from _domain()
    yield discovery()
    yield _udp_buffer()
    yield _clock()
    yield _logs()


def _installation() -> Iterator[Finding]:
    """Wheels or a sourced system, of which distribution, for which Python, and not both at once."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    wheels = sorted(
        {
            match[1]
            for distribution in importlib.metadata.distributions()
            if (match := _DISTRO.fullmatch(distribution.name or ""))
        }
    )
    sourced = [Path(p) for p in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p]
    systems = sorted({p.name for p in sourced if p.parent == Path("/opt/ros")})
    if len(wheels) > 1 or len(systems) > 1 or (wheels and systems):
        both = [f"wheels of {name}" for name in wheels] + [f"/opt/ros/{name}" for name in systems]
        yield fail(
            "installation",
            f"several ROS 2 are mixed: {', '.join(both)}",
            "keep one: a fresh shell without `source`, or a virtual environment without the wheels",
        )
    elif wheels:
        yield ok("installation", f"ROS 2 {wheels[0]} from wheels in {sys.prefix}, Python {python}")
    elif systems:
        yield ok("installation", f"ROS 2 {systems[0]} of this system, sourced, Python {python}")
    spec = importlib.util.find_spec("rclpy")
    if spec is None:
        yield _no_rclpy(python, sourced)
        return
    # in a process of its own: rcl ends the whole process when the middleware asked for is not there
    done = subprocess.run([sys.executable, "-c", _ASK_RCLPY], capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        yield fail(
            "rclpy",
            f"{spec.origin} does not load ({lines[-1]})",
            f"use the Python that it was built for (this is {python}), and an RMW_IMPLEMENTATION that is installed",
        )
        return
    yield ok("rclpy", f"loads, with middleware {done.stdout.strip()}")


def _no_rclpy(python: str, sourced: list[Path]) -> Finding:
    built = [path for prefix in sourced for path in prefix.glob("lib/python3*/site-packages/rclpy")]
    if built:
        version = built[0].parts[-3].removeprefix("python")
        return fail(
            "rclpy",
            f"the sourced ROS 2 is built for Python {version}, this is {python}",
            f"run genie-robot with python{version}, in a virtual environment made with --system-site-packages",
        )
    installed = sorted(Path("/opt/ros").glob("*/setup.bash"))
    advice = f"source {installed[0]}" if installed else HOW_TO_BUILD
    return fail("rclpy", f"no ROS 2 for this Python {python}", advice)


def _packages() -> Iterator[Finding]:
    """Whether our own packages are built, and from the sources beside this package, where they are there."""
    sources = Path(genie_robot.__file__).resolve().parents[1] / "ros2_ws" / "src"
    for name, probe in (("genie_robot_interfaces", "genie_robot_interfaces.msg"), ("genie_robot_ros", "")):
        spec = importlib.util.find_spec(name)
        if spec is None or spec.submodule_search_locations is None:
            yield fail("packages", f"{name} is not built for this Python", HOW_TO_BUILD)
            continue
        try:
            importlib.import_module(probe or name)
        except ImportError as error:
            yield fail("packages", f"{name} does not load ({error})", f"build it again: {HOW_TO_BUILD}")
            continue
        place = Path(next(iter(spec.submodule_search_locations)))
        stale = stale_source(name, place, sources / name)
        if stale:
            yield warn(
                "packages", f"{name} was built from other sources ({stale} differs)", "run `make ros` again"
            )
        else:
            yield ok("packages", f"{name} is built{', as its sources are' if sources.is_dir() else ''}")


def stale_source(name: str, place: Path, sources: Path) -> str | None:
    """A source file whose installed copy is missing or differs."""
    if name == "genie_robot_ros":
        pairs = [(path, place / path.name) for path in (sources / name).glob("*.py")]
    else:
        prefixes = [*os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep), sys.prefix]
        shares = [Path(p, "share", name) for p in prefixes if p and Path(p, "share", name).is_dir()]
        share = shares[0] if shares else place
        pairs = [
            (path, share / folder / path.name)
            for folder in ("msg", "srv", "action")
            for path in (sources / folder).glob(f"*.{folder}")
        ]
    for source, copy in sorted(pairs):
        if not copy.is_file() or copy.read_bytes() != source.read_bytes():
            return source.name
    return None


def _domain() -> Iterator[Finding]:
    text = os.environ.get("ROS_DOMAIN_ID", "")
    if text and not (text.isdecimal() and int(text) <= _MAX_DOMAIN):
        yield fail("domain", f"ROS_DOMAIN_ID is {text!r}", f"give a number from 0 to {_MAX_SAFE_DOMAIN}")
        return
    domain = int(text or 0)
    if domain > _MAX_SAFE_DOMAIN:
        yield warn(
            "domain",
            f"ROS_DOMAIN_ID is {domain}: its ports are among those that Linux gives to other programs",
            f"take one up to {_MAX_SAFE_DOMAIN}",
        )
    else:
        yield ok(
            "domain", f"{domain}{'' if text else ' (the default, which everybody shares who sets none)'}"
        )
    others = sorted(domains_in_use() - {domain})
    if others:
        yield ok(
            "domain",
            f"in use on this machine too: {', '.join(map(str, others))} (a missing node may be there)",
        )


def domains_in_use() -> set[int]:
    """Domains of which this machine has a pair of ports open as RTPS lays them out: single ports may be anybody's."""
    ports = set()
    for table in ("/proc/net/udp", "/proc/net/udp6"):
        if not os.path.exists(table):
            continue
        lines = Path(table).read_text().splitlines()[1:]
        ports |= {int(line.split()[1].rsplit(":", 1)[1], 16) for line in lines}
    return {
        domain
        for domain in range(_MAX_SAFE_DOMAIN + 1)
        if any({7400 + 250 * domain + pair, 7401 + 250 * domain + pair} <= ports for pair in _PORT_PAIRS)
    }


def discovery() -> Finding:
    """Who can see the nodes of this shell."""
    if os.environ.get("ROS_LOCALHOST_ONLY") == "1":
        return ok("discovery", "stays on this machine (ROS_LOCALHOST_ONLY)")
    chosen = os.environ.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "SUBNET")
    if chosen not in _RANGES:
        return fail(
            "discovery", f"ROS_AUTOMATIC_DISCOVERY_RANGE is {chosen!r}", f"wanted one of {', '.join(_RANGES)}"
        )
    if chosen == "LOCALHOST":
        return ok("discovery", "stays on this machine (LOCALHOST)")
    if chosen == "OFF":
        return fail(
            "discovery",
            "OFF: nodes find no other node, not even on this machine",
            "export ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST",
        )
    return warn(
        "discovery",
        f"{chosen}: every machine in this network sees these nodes and can command them",
        "unless that is what you want, export ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST",
    )


def _udp_buffer() -> Finding:
    path = Path("/proc/sys/net/core/rmem_max")
    size = int(path.read_text()) if path.is_file() else 0
    if size < _MIN_UDP_BYTES:
        return warn(
            "UDP buffer",
            f"net.core.rmem_max is {size}: images that come over the network may lose parts",
            "sudo sysctl -w net.core.rmem_max=8388608 (on one machine shared memory carries them)",
        )
    return ok("UDP buffer", f"{size / 2**20:.1f} MiB")


def _clock() -> Finding:
    """Whether stamps can be compared with those of other machines."""
    now = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    if time.gmtime().tm_year < 2025:
        return fail("clock", f"it is set to {now}", "set it: stamps of images and commands come from it")
    state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(256))
    if state == _TIME_ERROR and discovery().level != "OK":
        return warn(
            "clock", f"{now}, not synchronised: stamps of other machines are off", "run chrony or ntpd"
        )
    return ok("clock", now)


def _logs() -> Finding:
    """Where ROS 2 writes its log files."""
    home = os.environ.get("ROS_HOME") or "~/.ros"
    folder = Path(os.environ.get("ROS_LOG_DIR") or f"{home}/log").expanduser()
    existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        return fail("logs", f"{folder} cannot be written", "set ROS_LOG_DIR to a folder of yours")
    free = shutil.disk_usage(existing).free
    if free < _MIN_LOG_BYTES:
        return warn("logs", f"{folder}: {free >> 20} MiB are left on that disk", "free some space")
    return ok("logs", f"{folder}, {free / 2**30:.0f} GiB free")
