"""Blocks of an evaluation on several processes: each opens the same folders and plays whole blocks, on one thread.

How a batch is summed depends on what is in it, not on who plays it, and rows come back in the order of the blocks: so
episodes.csv is the same, byte for byte, for any number of processes.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from genie_robot.errors import GenieError
from genie_robot.evaluation.episodes import Row
from genie_robot.evaluation.evaluation_config import Block, EvaluationConfig

if TYPE_CHECKING:
    from genie_robot.evaluation.policy_eval import PolicyEvaluation

Player = Callable[[list[Block]], Iterable[list[Row]]]
"""Plays blocks; gives the rows of each as soon as they and those of the blocks before are there."""

_evaluation: PolicyEvaluation | None = None  # of a process of the pool, which has no other place to keep it


@contextmanager
def player_of(evaluation: PolicyEvaluation, workers: int) -> Iterator[Player]:
    """Play blocks in this process, or in `workers` others (spawned: no thread or lock is inherited).

    Several workers open the parts that the config names (`open_parts`), whatever parts `evaluation` has. GenieError
    when one of them is killed.
    """
    if workers <= 1:
        yield lambda blocks: map(evaluation.play, blocks)
        return
    pool = ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), _open, (evaluation.config, evaluation.out_dir)
    )
    try:
        yield lambda blocks: pool.map(_play, blocks)
    except BrokenProcessPool as error:
        raise GenieError(
            f"one of {workers} worker processes ended (out of memory?); finished blocks are kept: give the same command "
            "again, with fewer --workers"
        ) from error
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in multiprocessing.active_children():
            process.terminate()  # a block takes minutes; what it has not stored is played again


def _open(config: EvaluationConfig, out_dir: Path) -> None:
    """Make this process ready: a Ctrl-C ends it without a word, for the parent has all to say."""
    global _evaluation
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    from genie_robot.evaluation.evaluation_parts import open_parts
    from genie_robot.evaluation.policy_eval import PolicyEvaluation

    _evaluation = PolicyEvaluation(config, out_dir, open_parts(config), is_worker=True)


def _end_with_parent() -> None:
    """A pool's processes wait for work for ever when the parent was killed: they hold both ends of its pipe."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _play(block: Block) -> list[Row]:
    assert _evaluation is not None
    return _evaluation.play(block)
