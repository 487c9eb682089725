"""Run nodes until SIGINT or SIGTERM, and end them in order."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import rclpy
from rclpy.callback_groups import CallbackGroup
from rclpy.exceptions import NameValidationException, ParameterException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions


class StreamingNode(Protocol):
    """A node with threads of its own, and callback groups for what must be quick: its data streams."""

    quick_groups: set[CallbackGroup]

    def close(self) -> None:
        """End the node's own threads, when no callback runs any more."""

    def destroy_node(self) -> None:
        """As rclpy's."""


class NodeExecutor(SingleThreadedExecutor):
    """Serves all of its nodes but their streams, for which it has a second executor (to be spun in another thread).

    rclpy's executor walks over every entity of a node at every turn. With some 60 of them (services, parameters, the
    action, event handlers) a command waits longer for that than for the network; with the streams alone it does not.
    """

    def __init__(self) -> None:
        super().__init__()
        self.streams = StreamExecutor(self)

    def can_execute(self, entity: Any) -> bool:
        """Whether it is no stream and may run now."""
        return not self.is_stream(entity) and super().can_execute(entity)

    def is_stream(self, entity: Any) -> bool:
        """Whether it belongs to the streams of one of the nodes."""
        return any(entity.callback_group in node.quick_groups for node in self.get_nodes())

    def wake(self) -> None:
        """Both executors look again at what there is to wait for."""
        super().wake()
        self.streams.wake()


class StreamExecutor(SingleThreadedExecutor):
    """Serves the streams of another executor's nodes: a node itself can belong to one executor only."""

    def __init__(self, owner: NodeExecutor) -> None:
        super().__init__()
        self._owner = owner

    def get_nodes(self) -> list:
        """The owner's nodes."""
        return self._owner.get_nodes()

    def can_execute(self, entity: Any) -> bool:
        """Whether it is a stream and may run now."""
        return self._owner.is_stream(entity) and super().can_execute(entity)


Shared = TypeVar("Shared")


def run_nodes(makers: Sequence[Callable[[Shared], StreamingNode]], make_shared: Callable[[], Shared]) -> int:
    """Spin the nodes until SIGINT or SIGTERM; returns the exit code: 0, 1 if an executor failed, 2 for a wrong name or parameter.

    Each maker gets what `make_shared` returned once rclpy runs.

    The executors spin in their own threads, because a Python signal handler cannot run while the main thread waits in
    DDS; rclpy's own handlers would end the context under a frame that is being published.
    """
    stop = threading.Event()
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signal_number, lambda *_: stop.set())
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    shared = make_shared()
    nodes: list[StreamingNode] = []
    try:
        for make in makers:
            nodes.append(make(shared))
    except (NameValidationException, ParameterException) as error:
        print(f"{Path(sys.argv[0]).stem}: {' '.join(str(error).split())}", file=sys.stderr)
        _end(nodes)
        return 2
    failures: list[Exception] = []

    def spin(executor: SingleThreadedExecutor) -> None:
        try:
            while not stop.is_set():
                executor.spin_once()
        except ExternalShutdownException:
            pass
        except Exception as error:
            failures.append(error)
        finally:
            stop.set()

    executors: list[SingleThreadedExecutor] = []
    for node in nodes:  # each its own, so that one that loads a model does not hold up the others
        executor = NodeExecutor()
        executor.add_node(node)
        executors += [executor, executor.streams]
    spinners = [threading.Thread(target=spin, args=(one,), name=type(one).__name__) for one in executors]
    for spinner in spinners:
        spinner.start()
    stop.wait()
    # A task makes spin_once return. Executor.shutdown() would destroy what the other thread still waits on.
    for one in executors:
        one.create_task(lambda: None)
    for spinner in spinners:
        spinner.join()
    for node in nodes:
        node.close()
    for one in executors:
        one.shutdown()
    if failures:
        message = " ".join(str(failures[0]).split())
        nodes[0].get_logger().fatal(f"the executor ended: {type(failures[0]).__name__}: {message}")
    _end(nodes)
    return 1 if failures else 0


def _end(nodes: Sequence[StreamingNode]) -> None:
    for node in nodes:
        node.destroy_node()
    rclpy.try_shutdown()
