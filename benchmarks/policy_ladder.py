"""How good the test policies of the manipulation suite are in MuJoCo: the ladder that an evaluation wants.

    python benchmarks/policy_ladder.py --probe weights/manipulation-probe --clones weights/manipulation-policies

Prints success by task with Wilson intervals, how many policies lie in each fifth of the success rate and how many pairs
are close (gap .05 to .15), and writes benchmarks/results/policy_ladder.json. Stopped, it goes on where it was.
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path

import numpy as np
import torch

from genie_robot.evaluation.cloning.rollouts import run_episodes
from genie_robot.evaluation.intervals import wilson_interval
from genie_robot.evaluation.probe import load_probe
from genie_robot.simulation.policies import Resources, load_clones, make_policy, policy_names
from genie_robot.simulation.suites import FIRST_SEED, get_suite

SUITE = "manipulation"


def measure(name: str, resources: Resources, seeds: int, horizon: int) -> dict[str, float]:
    """Share of successes of a policy by task."""
    rates = {}
    for task in get_suite(SUITE).tasks:
        seed_range = range(FIRST_SEED, FIRST_SEED + seeds)
        outcomes_B = run_episodes(
            SUITE, task, lambda task: make_policy(name, SUITE, task, resources), seed_range, horizon
        )
        rates[task] = float(outcomes_B.mean())
    return rates


def table(rates: dict[str, dict[str, float]], seeds: int) -> str:
    """The ladder, best policy first, and what it says of the spread."""
    tasks = get_suite(SUITE).tasks
    means = {name: float(np.mean(list(row.values()))) for name, row in rates.items()}
    lines = [f"{'policy':16s}" + "".join(f"{task:>11s}" for task in tasks) + f"{'mean [95 %]':>22s}"]
    for name in sorted(means, key=lambda name: -means[name]):
        trials = seeds * len(tasks)
        low, high = wilson_interval(round(means[name] * trials), trials)
        cells = "".join(f"{rates[name][task]:11.2f}" for task in tasks)
        lines.append(f"{name:16s}{cells}{means[name]:8.2f} [{low:.2f}, {high:.2f}]")
    fifths = np.bincount(np.minimum((np.array(list(means.values())) * 5).astype(int), 4), minlength=5)
    gaps = [abs(means[a] - means[b]) for a, b in itertools.combinations(means, 2)]
    close = sum(0.05 <= gap <= 0.15 for gap in gaps)
    lines.append(f"policies in each fifth of the success rate, lowest first: {fifths.tolist()}")
    lines.append(f"close pairs (gap .05 to .15): {close} of {len(gaps)}")
    return "\n".join(lines)


def main() -> None:
    """Measure what is not there yet, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--probe", default="weights/manipulation-probe", help="folder of the policies' eyes")
    parser.add_argument("--clones", default="weights/manipulation-policies", help="cloned policies, or none")
    parser.add_argument("--policies", help="comma-separated (default: all that the folders have)")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--horizon", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/policy_ladder.json"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    probes = load_probe(args.probe)
    resources = Resources(eyes=probes.eyes)
    if args.clones != "none":
        resources = Resources(eyes=probes.eyes, clones=load_clones(args.clones))
    known = set(resources.clones.clones)
    names = args.policies.split(",") if args.policies else policy_names(SUITE)
    settings = {
        "seeds": args.seeds,
        "horizon": args.horizon,
        "probe": probes.hash,
        "clones": resources.clones.hash,
    }
    rates: dict[str, dict[str, float]] = {}
    if args.out.is_file():
        stored = json.loads(args.out.read_text(encoding="utf-8"))
        rates = stored["rates"] if stored["settings"] == settings else {}
    for name in names:
        if name in rates:
            continue
        if name.startswith("clone-") and name not in known:
            print(f"{name}: not in {args.clones}, left out", flush=True)
            continue
        rates[name] = measure(name, resources, args.seeds, args.horizon)
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(
            json.dumps({"settings": settings, "rates": rates}, indent=1) + "\n", encoding="utf-8"
        )
        print(f"{name}: {rates[name]}", flush=True)
    print(table(rates, args.seeds))


if __name__ == "__main__":
    main()
