"""The floor of this machine: what rclpy and DDS alone cost for the messages of the simulator, with nothing behind them.

$ python -m genie_robot_ros.echo_baseline serve       # one process
$ python -m genie_robot_ros.echo_baseline measure     # another: prints JSON {echo_p50_ms, echo_p99_ms}

`benchmarks/ros.py` drives the same server in turns with the simulator.
"""

from __future__ import annotations

import argparse
import array
import gc
import json
import sys
import time

import numpy as np
import rclpy
from genie_robot_interfaces.msg import LatentAction
from genie_robot_interfaces.srv import Reset
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image

ROUNDS = 200
PAUSE_S = (
    0.01  # about a model step: so the sample spans seconds, as the simulator's does, not one lucky moment
)
TIMEOUT_S = 120.0


def serve(name: str, height: int, width: int, work_ms: float) -> None:
    """Answer each action with an image that carries its stamp, each reset with its last frame or the camera's.

    `work_ms`: compute for so long before each answer, as a model does, so that caches and processes are as cold as after
    one. How long it really was is in the image's frame_id and in the answer's message [ms].
    """
    node = Node(f"{name}_server")
    image = Image(height=height, width=width, encoding="rgb8", step=3 * width)
    image.data = array.array("B", bytes(3 * height * width))
    latest = image
    images = node.create_publisher(Image, f"{name}/imagined/image_raw", 50)
    matrix = np.random.default_rng(0).random((256, 256), dtype=np.float32)

    def work() -> str:
        began_s = time.perf_counter()
        while time.perf_counter() - began_s < 1e-3 * work_ms:
            matrix @ matrix
        return f"{1e3 * (time.perf_counter() - began_s):.4f}"

    def answer(msg: LatentAction) -> None:
        image.header.stamp = msg.header.stamp
        image.header.frame_id = work()
        images.publish(image)

    def keep(msg: Image) -> None:
        nonlocal latest
        latest = msg

    def reset(request: Reset.Request, response: Reset.Response) -> Reset.Response:
        response.image = latest if request.use_latest_frames else request.frames[-1]
        response.success, response.message = True, work()
        return response

    node.create_subscription(Image, f"{name}/image_raw", keep, qos_profile_sensor_data)
    node.create_subscription(LatentAction, f"{name}/latent_action", answer, 500)
    node.create_service(Reset, f"{name}/reset", reset)
    rclpy.spin(node)


def measure() -> dict[str, float]:
    """Send actions one at a time and take the time until the image is here."""
    node = Node("echo_client")
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    arrived_s: list[float] = []
    topic = "echo/imagined/image_raw"
    node.create_subscription(Image, topic, lambda _: arrived_s.append(time.perf_counter()), 10)
    actions = node.create_publisher(LatentAction, "echo/latent_action", 10)
    deadline = time.monotonic() + TIMEOUT_S

    def spin_until(done) -> None:
        while not done():
            if time.monotonic() > deadline:
                raise TimeoutError(f"no echo server within {TIMEOUT_S:g} s")
            executor.spin_once(timeout_sec=0.1)

    spin_until(lambda: actions.get_subscription_count() > 0 and node.count_publishers(topic) > 0)
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
    parser = argparse.ArgumentParser(prog="echo_baseline", description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("serve", "measure"))
    parser.add_argument("--name", default="echo", help="of `serve`: prefix of its topics and its service")
    parser.add_argument("--work-ms", type=float, default=0.0, help="that `serve` computes before each answer")
    parser.add_argument("--height", type=int, default=64, help="of the images that `serve` sends")
    parser.add_argument("--width", type=int, default=64)
    args = parser.parse_args()
    rclpy.init()
    try:
        if args.what == "serve":
            serve(args.name, args.height, args.width, args.work_ms)
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
