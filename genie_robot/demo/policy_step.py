"""Demo step: policies of graded skill judged in imagination and in MuJoCo, from the same starts."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from genie_robot.demo.steps import Context, Result

SAY_EVERY_S = 10.0
WORLD_TITLES = {
    "mujoco": "MuJoCo",
    "imagined": "imagination",
    "interface": "MuJoCo through the eight codes",
}


def judge_policies(
    context: Context, *, model_folder: Path, probe_folder: Path, dataset: Path, seeds: int
) -> Result:
    """All policies x tasks x seeds in every world; rows are kept as they come, so an interruption loses little."""
    from genie_robot.evaluation.evaluation_config import EvaluationConfig
    from genie_robot.evaluation.policy_eval import PolicyEvaluation
    from genie_robot.evaluation.summary.compare import report_line
    from genie_robot.evaluation.summary.summarise import summarise

    # Eight codes lose much of what a policy asks for, and the page shows how much: scored all the same.
    config = EvaluationConfig(model=str(model_folder), probe=str(probe_folder), seeds=seeds, i_know=True)
    parts = _parts(context, config, dataset)
    evaluation = PolicyEvaluation(config, context.folder / "episodes", parts)
    done, said_at = config.episodes - evaluation.episodes_left, 0.0

    def progress(episodes: int, what: str) -> None:
        nonlocal done, said_at
        done += episodes
        if time.monotonic() - said_at > SAY_EVERY_S:
            said_at = time.monotonic()
            context.say(f"{done} of {config.episodes} episodes ({what})")

    summary = summarise(evaluation.run(progress), evaluation.facts)
    context.say(report_line(summary))
    return {
        **summary,
        "films": _films(summary, evaluation.out_dir, config.first_seed, context.folder),
    }


def _parts(context: Context, config: Any, dataset: Path) -> Any:
    """World model, judge and eyes; the action interface is m0 by the folder's adapter, or by one fitted here."""
    from genie_robot import load
    from genie_robot.evaluation.evaluation_parts import Parts
    from genie_robot.evaluation.judges import StateJudge
    from genie_robot.evaluation.probe import load_probe
    from genie_robot.evaluation.scoring import Judges
    from genie_robot.simulation.interfaces import TableInterface
    from genie_robot.simulation.policies import Resources

    model, probes = load(config.model), load_probe(config.probe)
    judge = StateJudge(probes.judge, config.suite)
    interface = TableInterface(_adapter(context, model, Path(config.model), dataset), model)
    hashes = {"probe": probes.hash, "judge": judge.hash, "model": model.hash, "interface": interface.hash}
    return Parts(config.suite, Judges(judge), Resources(eyes=probes.eyes), model, interface, hashes)


def _adapter(context: Context, model: Any, model_folder: Path, dataset: Path) -> Any:
    """The model folder's adapter (robot action to code), or one fitted here on the demo's own training episodes."""
    from genie_robot.data.commands import STEP_M
    from genie_robot.data.open import open_dataset
    from genie_robot.simulation.action_interface import ADAPTER_FILE, fit_adapter_from_episodes, load_adapter

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


def _films(summary: Result, episodes: Path, seed: int, folder: Path) -> list[Result]:
    """The best and the worst policy in both worlds on each task, from the same start: ten frames of each, side by side."""
    import numpy as np

    from genie_robot.evaluation.films import SCALE, episode_path
    from genie_robot.evaluation.pictures import read_video, write_png

    films = []
    for task in summary["tasks"]:
        for role in ("best_policy", "worst_policy"):
            policy = summary.get(role)
            for world in ("mujoco", "imagined"):
                source = episode_path(episodes, "videos", (world, task, str(policy), seed), ".mp4")
                if source.is_file():
                    film = read_video(source)[:, ::SCALE, ::SCALE]
                    chosen = film[np.linspace(0, len(film) - 1, 10).round().astype(int)]
                    name = f"policy_{task}_{role}_{world}.png"
                    write_png(folder / name, np.concatenate(list(chosen), axis=1))
                    films.append({"task": task, "policy": policy, "world": world, "file": name})
    return films
