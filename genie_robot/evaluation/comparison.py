"""Is one policy better than another? Exact tests for a fixed number of episodes, and one that may be looked at all the time.

* Paired by seed, fixed number: `mcnemar_p`.
* Not paired, fixed number: `barnard_p` (the one file that uses SciPy).
* Paired, watched while the episodes come in: `compare_sequentially`. Its error rate holds however often one looks and
  whenever one stops, because E is a nonnegative martingale under "both are equally good" (Ville's inequality).

Formulas: evaluation.md, section 2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Bools = Sequence[bool] | np.ndarray


def discordant(first: Bools, second: Bools) -> tuple[int, int]:
    """(episodes that only `first` solved, episodes that only `second` solved) of two outcome lists paired by seed."""
    a, b = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"outcomes have shapes {a.shape} and {b.shape}; wanted two vectors of one length")
    return int((a & ~b).sum()), int((b & ~a).sum())


def mcnemar_p(wins: int, losses: int) -> float:
    """Two-sided exact McNemar p-value: the binomial test of `wins` among the discordant pairs, wins + losses.

    For a number of episodes that was fixed beforehand.
    """
    n, k = _discordant_pairs(wins, losses), min(wins, losses)
    return 1.0 if n == 0 else min(1.0, 2.0 * (sum(math.comb(n, i) for i in range(k + 1)) / 2**n))


def barnard_p(successes: tuple[int, int], trials: tuple[int, int]) -> float:
    """Two-sided Barnard exact p-value for two policies whose episodes are *not* paired; needs SciPy (the extra dev)."""
    from scipy.stats import barnard_exact

    for k, n in zip(successes, trials, strict=True):
        if not 0 <= k <= n or n == 0:
            raise ValueError(f"{k} successes of {n} trials; wanted 0 <= successes <= trials and trials > 0")
    failures = [n - k for k, n in zip(successes, trials, strict=True)]
    return float(barnard_exact([list(successes), failures]).pvalue)


def e_value(wins: int, losses: int) -> float:
    """Evidence against "both policies are equally good" after wins + losses discordant pairs; 1 is none, 20 is p = 0.05.

    E = 2^n B(w + 1/2, n - w + 1/2) / B(1/2, 1/2): the likelihood ratio of a win probability from Jeffreys' prior to 1/2.
    """
    n = _discordant_pairs(wins, losses)
    log_ratio = n * math.log(2.0) + _log_beta(wins + 0.5, losses + 0.5) - _log_beta(0.5, 0.5)
    return math.exp(min(log_ratio, 700.0))  # beyond that a double overflows


@dataclass(frozen=True)
class SequentialResult:
    """What a comparison that may be stopped at any time has found.

    winner: "first", "second", or "" while undecided. decided_after: pairs of episodes until the decision, 0 while
    undecided. wins, losses: discordant pairs until the decision or the end. p_value: anytime-valid, 1 / largest E.
    """

    winner: str
    decided_after: int
    wins: int
    losses: int
    p_value: float


def compare_sequentially(first: Bools, second: Bools, alpha: float = 0.05) -> SequentialResult:
    """Go through paired outcomes in order and stop as soon as E reaches 1 / alpha.

    first, second: outcomes of two policies on the same seeds, in the order in which they are run. Two equally good
    policies are told apart with probability alpha at most, however many pairs are run.
    """
    if not 0.0 < alpha < 1.0:
        raise ValueError(f"alpha is {alpha}; wanted a number between 0 and 1, such as 0.05")
    discordant(first, second)  # checks the shapes
    wins = losses = 0
    largest = 1.0
    for pair, (a, b) in enumerate(zip(first, second, strict=True), start=1):
        wins, losses = wins + int(a and not b), losses + int(b and not a)
        largest = max(largest, e_value(wins, losses))
        if largest >= 1.0 / alpha:
            return SequentialResult("first" if wins > losses else "second", pair, wins, losses, 1.0 / largest)
    return SequentialResult("", 0, wins, losses, 1.0 / largest)


def _discordant_pairs(wins: int, losses: int) -> int:
    if min(wins, losses) < 0:
        raise ValueError(f"wins is {wins} and losses {losses}; wanted counts of 0 or more")
    return wins + losses


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
