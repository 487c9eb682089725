"""How good the test policies of the manipulation suite are in MuJoCo: the ladder that an evaluation wants.

    python benchmarks/policy_ladder.py [--seeds 20] [--out benchmarks/results/policy_ladder_<machine>_<date>]

Prints success by task with Wilson intervals, how many policies lie in each fifth of the success rate and how many pairs
are close (gap .05 to .15), and writes OUT.json and OUT.md. Stopped, it goes on where it was.
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from genie_robot.data.provenance import made_with_text, provenance
from genie_robot.evaluation.cloning.rollouts import run_episodes
from genie_robot.evaluation.intervals import wilson_interval
from genie_robot.evaluation.probe import load_probe
from genie_robot.simulation.policies import Resources, load_clones, make_policy, policy_names
from genie_robot.simulation.suites import FIRST_SEED, get_suite

SUITE = "manipulation"


def measure(name: str, resources: Resources, seeds: int, horizon: int) -> dict[str, float]:
    """Share of successes of a policy by task."""
    suite, rates = get_suite(SUITE), {}
    for task in suite.tasks:
        seed_range = range(FIRST_SEED, FIRST_SEED + seeds)
        outcomes_B = run_episodes(
            suite, task, lambda task: make_policy(name, SUITE, task, resources), seed_range, horizon
        )
        rates[task] = float(outcomes_B.mean())
    return rates


def table(rates: dict[str, dict[str, float]], seeds: int) -> str:
    """The ladder, best policy first, and what it says of the spread, as Markdown."""
    tasks = get_suite(SUITE).tasks
    means = {name: float(np.mean(list(row.values()))) for name, row in rates.items()}
    lines = [f"| policy | {' | '.join(tasks)} | mean [95 %] |", "| --- |" + " ---: |" * (len(tasks) + 1)]
    for name in sorted(means, key=lambda name: -means[name]):
        trials = seeds * len(tasks)
        low, high = wilson_interval(round(means[name] * trials), trials)
        cells = " | ".join(f"{rates[name][task]:.2f}" for task in tasks)
        lines.append(f"| {name} | {cells} | {means[name]:.2f} [{low:.2f}, {high:.2f}] |")
    fifths = np.bincount(np.minimum((np.array(list(means.values())) * 5).astype(int), 4), minlength=5)
    gaps = [abs(means[a] - means[b]) for a, b in itertools.combinations(means, 2)]
    close = sum(0.05 <= gap <= 0.15 for gap in gaps)
    return "\n".join(
        [
            *lines,
            "",
            f"Policies in each fifth of the success rate, lowest first: {fifths.tolist()}. "
            f"Close pairs (gap .05 to .15): {close} of {len(gaps)}.",
        ]
    )


def report(stored: dict[str, Any]) -> str:
    """All that is kept, as Markdown."""
    settings = stored["settings"]
    return (
        "# Test policies of the manipulation suite in MuJoCo\n\n"
        f"Share of successes, {settings['seeds']} starts a task, {settings['horizon']} steps; probe {settings['probe'][:12]}, "
        f"clones {settings['clones'][:12]}; `python benchmarks/policy_ladder.py`, {made_with_text([stored['made_with']])}."
        f"\n\n{table(stored['rates'], settings['seeds'])}\n"
    )


def main() -> None:
    """Measure what is not there yet, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--probe", default="weights/manipulation-probe", help="folder of the policies' eyes")
    parser.add_argument("--clones", default="weights/manipulation-policies", help="cloned policies, or none")
    parser.add_argument("--policies", help="comma-separated (default: all that the folders have)")
    parser.add_argument("--seeds", type=int, default=20, help="starts a task (default: %(default)s)")
    parser.add_argument("--horizon", type=int, default=64, help="steps of an episode (default: %(default)s)")
    parser.add_argument(
        "--out", default="outputs/policy_ladder", help="path without suffix (default: %(default)s)"
    )
    args = parser.parse_args()
    torch.set_num_threads(1)
    probes = load_probe(args.probe)
    resources = Resources(eyes=probes.eyes)
    if args.clones != "none":
        resources = Resources(eyes=probes.eyes, clones=load_clones(args.clones))
    known = set(resources.clones.clones)
    names = args.policies.split(",") if args.policies else policy_names(SUITE)
    for name in [name for name in names if name.startswith("clone-") and name not in known]:
        print(f"{name}: not in {args.clones}, left out", flush=True)
        names = [other for other in names if other != name]
    settings = {
        "seeds": args.seeds,
        "horizon": args.horizon,
        "probe": probes.hash,
        "clones": resources.clones.hash,
    }
    out = Path(f"{args.out}.json")
    stored: dict[str, Any] = {"settings": settings, "made_with": provenance(), "rates": {}}
    if out.is_file():
        found = json.loads(out.read_text(encoding="utf-8"))
        stored = found if found["settings"] == settings else stored
    for name in tqdm([name for name in names if name not in stored["rates"]], desc="policies", disable=None):
        stored["rates"][name] = measure(name, resources, args.seeds, args.horizon)
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")
    text = report(stored)
    Path(f"{args.out}.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
