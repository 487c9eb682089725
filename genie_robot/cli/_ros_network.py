"""Whom the nodes of a command talk to: this machine, unless the shell or the user says otherwise."""

from __future__ import annotations

import argparse
from collections.abc import MutableMapping
from typing import Any

PROFILE_VARIABLE = "FASTRTPS_DEFAULT_PROFILES_FILE"


def add_open_network(parser: argparse.ArgumentParser) -> None:
    """Add `--open-network`."""
    parser.add_argument(
        "--open-network", action="store_true", help="let other machines see, and talk to, these nodes"
    )


def set_network(environment: MutableMapping[str, str], open_network: bool, share: Any) -> None:
    """On this machine, with room for large images, unless told otherwise: rclpy reads it when it is initialised.

    `share`: module genie_robot_ros.share.
    """
    if open_network:
        for name in ("ROS_AUTOMATIC_DISCOVERY_RANGE", "ROS_LOCALHOST_ONLY"):
            environment.pop(name, None)
        say("network", "open: every machine in it sees these nodes and can talk to them")
        return
    reach = environment.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    here = reach == "LOCALHOST" or environment.get("ROS_LOCALHOST_ONLY") == "1"
    domain = environment.get("ROS_DOMAIN_ID", "0")
    say("network", f"{'this machine only' if here else reach}, ROS domain {domain}")
    # the shipped profile knows no address but the loopback's
    if here and PROFILE_VARIABLE not in environment:
        profile = share.share_path(share.PACKAGE, "config", "fastdds_large_images.xml")
        environment[PROFILE_VARIABLE] = str(profile)
        say("large images", f"Fast DDS profile {profile}; give it to the camera too")


def say(name: str, text: str) -> None:
    """A line of this command about one of its parts."""
    print(f"[{name}] {text}", flush=True)
