"""`genie-robot ros doctor`: what is wrong with this ROS 2 environment, in plain words."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from genie_robot.cli._data_output import say, write_json
from genie_robot.cli._findings import Finding
from genie_robot.cli._ros_environment import check_environment
from genie_robot.cli._ros_package import ros_module
from genie_robot.cli._ros_shared_memory import check_shared_memory

_EPILOG = """examples:
  genie-robot ros doctor                     a line for each check: OK, WARN or FAIL, and what to do
  ROS_DOMAIN_ID=7 genie-robot ros doctor     the nodes of that domain
  genie-robot ros doctor --json -            for a program

Run it in the shell, user and container of the node that has trouble: it looks at the same variables, and at the nodes
that can be seen from there. Exit code 1 when a check failed, else 0.
"""


def add_parser(commands: Any) -> None:
    """Add `doctor`."""
    parser = commands.add_parser(
        "doctor",
        help="check the ROS 2 environment and the running nodes",
        description="Check the installation, discovery, shared memory and the running nodes.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", metavar="FILE", help="write the findings as JSON (- for the screen)")
    parser.set_defaults(run_ros=run)


def run(args: argparse.Namespace) -> int:
    """Check and print as it goes; returns 1 when a check failed."""
    findings = []
    for finding in _findings():
        say(args.json, finding.line())
        findings.append(finding)
    failed = sum(finding.level == "FAIL" for finding in findings)
    warned = sum(finding.level == "WARN" for finding in findings)
    say(args.json, f"{len(findings)} checks: {failed} failed, {warned} to look at")
    write_json(args.json, {"ok": not failed, "findings": [finding._asdict() for finding in findings]})
    return 1 if failed else 0


def _findings() -> Iterator[Finding]:
    broken = False
    for finding in (*check_environment(), *check_shared_memory()):
        broken = broken or (finding.level == "FAIL" and finding.check in ("rclpy", "packages", "domain"))
        yield finding
    if broken:  # nothing below can run
        return
    for found in (*ros_module("loopback").check_loopback(), *ros_module("doctor").check_graph()):
        yield Finding(*found)
