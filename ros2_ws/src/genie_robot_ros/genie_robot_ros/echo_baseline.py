"""The floor of this machine: what rclpy and DDS alone cost for one action out and one 64x64 image back.

$ python -m genie_robot_ros.echo_baseline serve       # one process
$ python -m genie_robot_ros.echo_baseline measure     # another: prints JSON {echo_p50_ms, echo_p99_ms}
"""

from __future__ import annotations

import array
import gc
import json
import sys
import time

import numpy as np
import rclpy
from genie_robot_interfaces.msg import LatentAction
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import Image

ROUNDS = 200
PAUSE_S = (
    0.01  # about a model step: so the sample spans seconds, as the simulator's does, not one lucky moment
)
TIMEOUT_S = 120.0


def serve() -> None:
    """Answer each action with a constant image that carries the action's stamp."""
    node = Node("echo_server")
    image = Image(height=64, width=64, encoding="rgb8", step=192, data=array.array("B", bytes(64 * 64 * 3)))
    images = node.create_publisher(Image, "echo/image", 10)

    def answer(msg: LatentAction) -> None:
        image.header.stamp = msg.header.stamp
        images.publish(image)

    node.create_subscription(LatentAction, "echo/action", answer, 10)
    rclpy.spin(node)


def measure() -> dict[str, float]:
    """Send actions one at a time and take the time until the image is here."""
    node = Node("echo_client")
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    arrived_s: list[float] = []
    node.create_subscription(Image, "echo/image", lambda _: arrived_s.append(time.perf_counter()), 10)
    actions = node.create_publisher(LatentAction, "echo/action", 10)
    deadline = time.monotonic() + TIMEOUT_S

    def spin_until(done) -> None:
        while not done():
            if time.monotonic() > deadline:
                raise TimeoutError(f"no echo server within {TIMEOUT_S:g} s")
            executor.spin_once(timeout_sec=0.1)

    spin_until(lambda: actions.get_subscription_count() > 0 and node.count_publishers("echo/image") > 0)
    times_ms = []
    gc.freeze()
    for k in range(ROUNDS):
        time.sleep(PAUSE_S)
        sent_s = time.perf_counter()
        actions.publish(LatentAction(code=k % 8))
        spin_until(lambda k=k: len(arrived_s) > k)
        times_ms.append(1e3 * (arrived_s[k] - sent_s))
    p50, p99 = (round(float(np.percentile(times_ms, q)), 3) for q in (50, 99))
    return {"echo_p50_ms": p50, "echo_p99_ms": p99}


def main() -> int:
    """`serve` or `measure`."""
    what = sys.argv[1] if len(sys.argv) > 1 else ""
    if what not in ("serve", "measure"):
        print("echo_baseline: give `serve` or `measure`", file=sys.stderr)
        return 2
    rclpy.init()
    try:
        if what == "serve":
            serve()
        else:
            print(json.dumps(measure()))
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except TimeoutError as error:
        print(f"echo_baseline: {error}", file=sys.stderr)
        return 1
    finally:
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
