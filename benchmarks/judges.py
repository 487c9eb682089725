"""The judges on held-out films: right and wrong verdicts, calibration, floors that do not look, optimism, speed.

    python benchmarks/judges.py --data DIR... --probe weights/manipulation-probe --judge weights/manipulation-judge
        [--world-model weights/manipulation-tiny] [--films 60] [--out outputs/judges]

One dataset a task, as `genie-robot data generate --task all` writes them. The floors are fitted on the train split, all
figures are of the test split. With --world-model also on its reconstructions, and the optimism test. Writes judges.md
and judges.json.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

import genie_robot
from genie_robot.data.provenance import provenance
from genie_robot.evaluation.judges import Judge, StateJudge, combine, load_judge
from genie_robot.evaluation.judges.blind import ActionFloor, blind_judges
from genie_robot.evaluation.judges.calibration import calibration_table, films_by_task, judge_films
from genie_robot.evaluation.judges.optimism import optimism
from genie_robot.evaluation.probe import load_probe
from genie_robot.evaluation.probe_data import LabelledFrames, load_frames, reconstruct
from genie_robot.simulation.success import success_step

SPREAD = 8


def missed_by_spread_frames(data: LabelledFrames) -> dict[str, float]:
    """Share of each task's successes in which none of SPREAD frames spread over the film fulfils the task."""
    result = {}
    for task, index_BT in films_by_task(data):
        fulfilled = np.array(
            [[data.suite.task_success(task, s) for s in film] for film in data.states_FS[index_BT]]
        )
        chosen = np.linspace(0, fulfilled.shape[1] - 1, SPREAD).round().astype(int)
        good = np.array([success_step(film) > 0 for film in fulfilled])
        result[task] = float((good & ~fulfilled[:, chosen].any(axis=1)).sum() / max(1, good.sum()))
    return result


def undecided_share(primary: Judge, second: Judge, data: LabelledFrames) -> float:
    """Share of films on which the two judges differ."""
    said = [
        combine(*(judge.judge(data.frames_FYXC[index_BT], task) for judge in (primary, second)))
        for task, index_BT in films_by_task(data)
    ]
    return float((np.concatenate(said) == "undecided").mean())


def frames_per_second(judge: Judge, data: LabelledFrames) -> float:
    """Frames that a judge reads in a second of processor time, on one thread."""
    task, index_BT = next(films_by_task(data))
    films = data.frames_FYXC[index_BT[:16]]
    judge.judge(films[:1], task)
    started = time.process_time()
    judge.judge(films, task)
    return films.shape[0] * films.shape[1] / (time.process_time() - started)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--probe", type=Path, default=Path("weights/manipulation-probe"))
    parser.add_argument("--judge", type=Path, default=Path("weights/manipulation-judge"))
    parser.add_argument("--world-model")
    parser.add_argument("--films", type=int, help="films of each test set (default: all)")
    parser.add_argument("--out", type=Path, default=Path("outputs/judges"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    train, test = load_frames(args.data, "train"), load_frames(args.data, "test", args.films)
    primary = StateJudge(load_probe(args.probe).judge, test.suite.name)
    second = load_judge(args.judge, test.suite.name)
    model = genie_robot.load(args.world_model) if args.world_model else None
    text, figures = ["# Judges on held-out films"], {}

    def add(title: str, found: dict[str, Any], table: str) -> None:
        text.append(f"## {title}\n\n{table}")
        figures[title] = found

    pictures = {"true frames": test.frames_FYXC}
    if args.world_model:
        pictures["reconstructed frames"] = reconstruct(args.world_model, test)
    for kind, frames in pictures.items():
        for judge in (primary, second):
            found = judge_films(judge, test, frames)
            add(f"{judge.name}, {kind}", {k: asdict(v) for k, v in found.items()}, calibration_table(found))
    floors = {judge.name: judge_films(judge, test)["all"] for judge in blind_judges(train, [primary, second])}
    floors[ActionFloor.name] = ActionFloor.fit(train).calibrate(test)
    add("floors, all tasks", {k: asdict(v) for k, v in floors.items()}, calibration_table(floors))
    facts = {
        "undecided": undecided_share(primary, second, test),
        f"successes without a fulfilled frame among {SPREAD} spread ones": missed_by_spread_frames(train),
        "frames a second, one thread": {
            judge.name: frames_per_second(judge, test) for judge in (primary, second)
        },
        "hashes": {judge.name: judge.hash for judge in (primary, second)},
        "world model": model.hash if model else None,
        "made with": provenance(),
    }
    add("facts", facts, f"```\n{json.dumps(facts, indent=1)}\n```")
    if model:
        found = {task: asdict(o) | {"rate": o.rate} for task, o in optimism(model, primary, test).items()}
        add("optimism", found, f"```\n{json.dumps(found, indent=1)}\n```")
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "judges.md").write_text("\n\n".join(text) + "\n", encoding="utf-8")
    (args.out / "judges.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print("\n\n".join(text))


if __name__ == "__main__":
    main()
