"""Whether messages get from one process to another on this machine, how fast, and whether large images get lost.

Run as a program it is the publisher: `python -m genie_robot_ros.loopback TOPIC`.
"""

from __future__ import annotations

import array
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

IMAGES, RATE_HZ = 30, 30.0
HEIGHT, WIDTH = 480, 640
#: goes along with every image: says whether nothing gets through, or only what is large does not
SMALL_HEIGHT, SMALL_WIDTH = 48, 64
FIND_S, RECEIVE_S = 10.0, 5.0
PROFILE_ADVICE = "give the process that publishes images the profile for large images"
#: as a camera driver publishes
CAMERA_QOS = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)


def check_loopback() -> Iterator[tuple[str, ...]]:
    """One finding (check, level, found[, advice]): images of a second process, received in this one."""
    topic = f"/_genie_doctor_{os.getpid()}/image_raw"  # hidden: nobody else lists or records it
    delays_ms: list[float] = []
    small: list[int] = []

    def on_image(message: bytes, info: dict[str, Any]) -> None:
        if len(message) < 3 * HEIGHT * WIDTH:
            small.append(len(message))
        else:
            delays_ms.append((info["received_timestamp"] - info["source_timestamp"]) / 1e6)

    context = Context()
    context.init()
    node = rclpy.create_node("genie_doctor_loopback", context=context, start_parameter_services=False)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    subscription = node.create_subscription(Image, topic, on_image, CAMERA_QOS, raw=True)
    publisher = subprocess.Popen(
        [sys.executable, "-m", "genie_robot_ros.loopback", topic], stderr=subprocess.PIPE, text=True
    )
    started = time.monotonic()
    found_s = None
    try:
        while publisher.poll() is None and time.monotonic() - started < FIND_S + RECEIVE_S:
            executor.spin_once(timeout_sec=0.02)
            if found_s is None and subscription.get_publisher_count():
                found_s = time.monotonic() - started
        for _ in range(2 * IMAGES):  # what had arrived when the publisher ended
            executor.spin_once(timeout_sec=0.0)
        yield _finding(publisher, found_s, delays_ms, len(small))
    finally:
        publisher.kill()
        publisher.communicate()
        executor.shutdown()
        node.destroy_node()
        context.shutdown()


def _finding(
    publisher: subprocess.Popen[str], found_s: float | None, delays_ms: list[float], small: int
) -> tuple[str, ...]:
    size_mb = HEIGHT * WIDTH * 3 / 1e6
    if found_s is None:
        ended = publisher.poll()
        why = f"the other process ended with code {ended}" if ended else f"no contact within {FIND_S:g} s"
        return (
            "loopback",
            "FAIL",
            f"two processes of this machine do not find each other ({why})",
            "see domain and discovery above; is there a firewall on the loopback, or another user's /dev/shm?",
        )
    if not delays_ms and small:
        return (
            "loopback",
            "WARN",
            f"all {IMAGES} images of {size_mb:.1f} MB lost between two processes at {RATE_HZ:g} Hz, "
            f"{small} of {IMAGES} small ones arrived",
            PROFILE_ADVICE,
        )
    if not delays_ms:
        return (
            "loopback",
            "FAIL",
            "two processes find each other, but no image arrives",
            "remove stale shared memory (above), try without a Fast DDS profile",
        )
    lost = IMAGES - len(delays_ms)
    found = (
        f"{lost or 'none'} of {IMAGES} images of {size_mb:.1f} MB lost between two processes at {RATE_HZ:g} Hz, in "
        f"{np.percentile(delays_ms, 50):.1f} ms (p50), {max(delays_ms):.1f} ms (worst); contact within {found_s:.1f} s"
    )
    if lost:
        return (
            "loopback",
            "WARN",
            found,
            PROFILE_ADVICE,
        )
    return "loopback", "OK", found


def publish(topic: str) -> int:
    """Publish the images once somebody listens; exit code 1 when nobody came."""
    context = Context()
    context.init()
    node = rclpy.create_node("genie_doctor_camera", context=context, start_parameter_services=False)
    publisher = node.create_publisher(Image, topic, CAMERA_QOS)
    deadline = time.monotonic() + FIND_S
    while not publisher.get_subscription_count():
        if time.monotonic() > deadline:
            return 1
        time.sleep(0.01)
    small, image = _image(SMALL_HEIGHT, SMALL_WIDTH), _image(HEIGHT, WIDTH)
    due = time.monotonic()
    for _ in range(IMAGES):
        publisher.publish(small)
        publisher.publish(image)
        due += 1 / RATE_HZ
        time.sleep(max(0.0, due - time.monotonic()))
    context.shutdown()
    return 0


def _image(height: int, width: int) -> Image:
    image = Image(height=height, width=width, encoding="rgb8", step=3 * width)
    image.data = array.array("B", bytes(3 * width * height))
    return image


if __name__ == "__main__":
    sys.exit(publish(sys.argv[1]))
