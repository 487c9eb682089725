"""Run a node until SIGINT or SIGTERM, and end it in order."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import TypeVar

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

AnyNode = TypeVar("AnyNode", bound=Node)


def run_node(make_node: Callable[[], AnyNode], end_work: Callable[[AnyNode], None]) -> int:
    """Spin the node until SIGINT or SIGTERM; returns the exit code: 0, or 1 if the executor failed.

    `end_work` ends the node's own threads, when no callback runs any more.

    The executor spins in its own thread, because a Python signal handler cannot run while the main thread waits in
    DDS; rclpy's own handlers would end the context under a frame that is being published.
    """
    stop = threading.Event()
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signal_number, lambda *_: stop.set())
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node = make_node()
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    failures: list[Exception] = []

    def spin() -> None:
        try:
            while not stop.is_set():
                executor.spin_once()
        except ExternalShutdownException:
            pass
        except Exception as error:
            failures.append(error)
        finally:
            stop.set()

    spinner = threading.Thread(target=spin, name="executor")
    spinner.start()
    stop.wait()
    # A task makes spin_once return. Executor.shutdown() would destroy what the other thread still waits on.
    executor.create_task(lambda: None)
    spinner.join()
    end_work(node)
    executor.shutdown()
    if failures:
        message = " ".join(str(failures[0]).split())
        node.get_logger().fatal(f"the executor ended: {type(failures[0]).__name__}: {message}")
    node.destroy_node()
    rclpy.try_shutdown()
    return 1 if failures else 0
