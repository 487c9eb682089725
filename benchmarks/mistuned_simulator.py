"""How well a wrongly tuned MuJoCo would do as the judge of policies, next to the world model: what an r is worth.

    python benchmarks/mistuned_simulator.py [--seeds 25] [--out benchmarks/results/mistuned_simulator_<machine>_<date>]

Policies, starts, true outcomes and those of imagination are of a kept evaluation (docs/nightly). The same episodes run once
more in MuJoCo with wrong physics; the renderer and the success rule stay perfect, so only the physics is on trial. First,
with the right physics, every outcome must be the kept one. Writes OUT.json and OUT.md.
"""

from __future__ import annotations

import argparse
import gzip
import json
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import mujoco
import numpy as np
import torch
from tqdm import tqdm

from genie_robot.data.provenance import made_with_text, provenance
from genie_robot.evaluation.cloning.rollouts import run_episodes
from genie_robot.evaluation.episodes import read_rows
from genie_robot.evaluation.evaluation_config import EvaluationConfig, load_config
from genie_robot.evaluation.evaluation_parts import Parts, open_parts
from genie_robot.evaluation.summary.compare import compare, without_nan
from genie_robot.evaluation.summary.facts import EpisodeTable, facts_of
from genie_robot.simulation.mujoco.manipulation.env import ManipulationEnv
from genie_robot.simulation.mujoco.scene import CONTROL_DT_S
from genie_robot.simulation.policies import make_policy
from genie_robot.simulation.suites import LOOK, get_suite

FIGURES = ("pearson_r", "mmrv", "bias", "mean_abs_error", "episode_agreement", "kappa")


class Physics(NamedTuple):
    """What is wrong: factors of sliding friction and of the things' mass, and of how far the arm moves."""

    friction: float = 1.0
    mass: float = 1.0
    reach: float = 1.0


RIGHT = "right physics"
VARIANTS = {
    RIGHT: Physics(),
    "friction x 0.3": Physics(friction=0.3),
    "things 5 x as heavy": Physics(mass=5.0),
    "arm moves 0.85 of what is asked": Physics(reach=0.85),
    "all three": Physics(0.3, 5.0, 0.85),
}


class MistunedEnv(ManipulationEnv):
    """A task with other physics and the same pictures."""

    def __init__(self, task: str, physics: Physics) -> None:
        """Make the environment of the suite."""
        super().__init__(task, look=LOOK)
        self._physics = physics

    def reset(self, **options: Any) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode, then make its physics wrong."""
        first = super().reset(**options)
        model, wrong = self.simulator.model, self._physics
        model.geom_friction[:, 0] *= wrong.friction
        for name in ("object", "distractor"):
            model.body(name).mass *= wrong.mass
            model.body(name).inertia *= wrong.mass
        mujoco.mj_setConst(model, mujoco.MjData(model))  # what the solver derives from masses
        return first

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Apply one robot action, the way the arm does it."""
        action = np.array(action, dtype=np.float64)
        action[:3] *= self._physics.reach
        return super().step(action)


def rolled(config: EvaluationConfig, parts: Parts, physics: Physics, bar: tqdm) -> np.ndarray:
    """Outcomes (P, M, K) of all policies with these physics."""
    suite = replace(get_suite(config.suite), make_env=lambda task: MistunedEnv(task, physics))
    outcomes = []
    for policy in config.policies:
        for task in config.tasks:
            make = partial(make_policy, policy, config.suite, resources=parts.resources)
            outcomes.append(run_episodes(suite, task, make, config.all_seeds, config.horizon))
            bar.update()
    return np.array(outcomes, dtype=float).reshape(len(config.policies), len(config.tasks), config.seeds)


def kept(config: EvaluationConfig, folder: Path) -> EpisodeTable:
    """The episodes of a kept evaluation, as its own report counts them."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "episodes.csv"
        path.write_bytes(gzip.decompress((folder / "episodes.csv.gz").read_bytes()))
        return EpisodeTable(read_rows(path), facts_of(config, dt_s=CONTROL_DT_S, hashes={}))


def report(result: dict[str, Any]) -> str:
    """The table as Markdown."""
    lines = [
        "# A wrongly tuned simulator as the judge of policies",
        "",
        f"Of {result['evaluation']}: {len(result['policies'])} policies, tasks {', '.join(result['tasks'])}, the first "
        f"{result['seeds']} starts; {made_with_text([result['made_with']])}; `python benchmarks/mistuned_simulator.py`.",
        "",
        "| judged in | r | MMRV | bias | \\|error\\| | same outcome | kappa |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, figures in result["rows"].items():
        lines.append(f"| {name} | " + " | ".join(f"{figures[key]:.3f}" for key in FIGURES) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, check, print, store."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--evaluation", type=Path, default=Path("docs/nightly"), help="folder (default: %(default)s)"
    )
    parser.add_argument("--config", default="nightly", help="its configuration (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=25, help="the first starts of it (default: %(default)s)")
    parser.add_argument("--out", default="", help="path without suffix; none: print only")
    args = parser.parse_args()
    torch.set_num_threads(1)
    config = replace(load_config(args.config), seeds=args.seeds, worlds=("mujoco", "imagined"))
    table = kept(config, args.evaluation)
    truth = table.outcomes("mujoco")
    figures = {"the world model": compare(table.outcomes("imagined"), truth)}
    parts = open_parts(replace(config, worlds=("mujoco",)))
    with tqdm(
        total=len(VARIANTS) * truth.shape[0] * truth.shape[1], desc="policies x tasks", disable=None
    ) as bar:
        for name, physics in VARIANTS.items():
            outcomes = rolled(config, parts, physics, bar)
            if name == RIGHT and not np.array_equal(outcomes, truth):
                raise SystemExit(
                    f"{int((outcomes != truth).sum())} outcomes are not those of {args.evaluation}: other weights?"
                )
            figures[name] = compare(outcomes, truth)
    result = {
        "evaluation": str(args.evaluation),
        "policies": config.policies,
        "tasks": config.tasks,
        "seeds": config.seeds,
        "made_with": provenance(),
        "rows": figures,
    }
    text = report(result)
    print(text)
    if args.out:
        Path(f"{args.out}.json").write_text(
            json.dumps(without_nan(result), indent=1) + "\n", encoding="utf-8"
        )
        Path(f"{args.out}.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
