"""Demo step: policies of graded skill judged in imagination and in MuJoCo, from the same starts."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

from genie_robot.demo.steps import Context, Result

SAY_EVERY_S = 10.0
WORLD_TITLES = {
    "mujoco": "MuJoCo",
    "imagined": "imagination",
    "mujoco_codes": "MuJoCo through the eight codes",
}


def judge_policies(
    context: Context, *, model_folder: Path, probe_folder: Path, dataset: Path, seeds: int
) -> Result:
    """All policies x tasks x seeds in every world; rows are kept as they come, so an interruption loses little."""
    from genie_robot import load
    from genie_robot.evaluation.policy_eval import PolicyEvalConfig, PolicyEvaluation
    from genie_robot.evaluation.policy_summary import report_line, summarise
    from genie_robot.evaluation.probe import load_probe

    model = load(model_folder)
    adapter = _adapter(context, model, model_folder, dataset)
    config = PolicyEvalConfig(seeds=seeds)
    evaluation = PolicyEvaluation(
        config, context.folder / "episodes", load_probe(probe_folder), model, adapter
    )
    done, said_at = 0, 0.0

    def progress(episodes: int, what: str) -> None:
        nonlocal done, said_at
        done += episodes
        if time.monotonic() - said_at > SAY_EVERY_S:
            said_at = time.monotonic()
            context.say(f"{done} of {config.episodes} episodes ({what})")

    summary = summarise(config, evaluation.run(progress))
    context.say(report_line(summary))
    return {
        **summary,
        "films": _films(summary, evaluation.out_dir / "strips", config.first_seed, context.folder),
    }


def _adapter(context: Context, model: Any, model_folder: Path, dataset: Path) -> Any:
    """The model folder's adapter (robot action to code), or one fitted here on the demo's own training episodes."""
    from genie_robot.data.open import open_dataset
    from genie_robot.simulation.action_interface import ADAPTER_FILE, fit_adapter_from_episodes, load_adapter
    from genie_robot.simulation.mujoco.tasks import STEP_M

    if (model_folder / ADAPTER_FILE).is_file():
        return load_adapter(model_folder)
    source = open_dataset(dataset)
    steps = source.splits["train"] * 20  # an episode has a few more; small datasets get what they can give
    fitted, tested = min(500, steps // 2), min(1000, steps // 2)
    context.say(
        f"no {ADAPTER_FILE} in {model_folder.name}; fitting one on {fitted} labelled steps of the demo's data"
    )
    return fit_adapter_from_episodes(
        model,
        source.episodes("train", actions=True),
        transitions=fitted,
        heldout=tested,
        metres_per_unit=STEP_M,
    )


def _films(summary: Result, strips: Path, seed: int, folder: Path) -> list[Result]:
    """The best and the worst policy in both worlds on each task, from the same start."""
    films = []
    for task in summary["tasks"]:
        for role in ("best_policy", "worst_policy"):
            policy = summary.get(role)
            for world in ("mujoco", "imagined"):
                source = strips / f"{task}_{policy}_{seed}_{world}.png"
                if policy and source.is_file():
                    name = f"policy_{task}_{role}_{world}.png"
                    shutil.copyfile(source, folder / name)
                    films.append({"task": task, "policy": policy, "world": world, "file": name})
    return films
