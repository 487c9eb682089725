"""The demo from its first step to its report: `run_demo(DemoSettings(...))`."""

from __future__ import annotations

import os
import platform
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from types import FrameType
from typing import Any

from genie_robot.data.provenance import cpu_name, git_hash
from genie_robot.demo import data_step, model_step, policy_step, ros_step, train_step
from genie_robot.demo.report import write_html
from genie_robot.demo.steps import (
    REPOSITORY_ROOT,
    Step,
    StepRecord,
    hash_files,
    hash_sources,
    run_steps,
    write_json,
)
from genie_robot.demo.targets import verdicts
from genie_robot.errors import ModelFolderError

MODEL_FOLDER = REPOSITORY_ROOT / "weights" / "tabletop-tiny"
PROBE_FOLDER = REPOSITORY_ROOT / "weights" / "tabletop-probe"
#: apart from seeds 0 and 1, with which the model in the box and the probes are trained (weights/recipe.py)
DATA_SEED = 20_261


@dataclass(frozen=True)
class Sizes:
    """How much of everything; the whole takes about 12 minutes on two cores with FULL, two with QUICK."""

    train_episodes: int
    val_episodes: int
    test_episodes: int
    frames: int
    tokenizer_steps: int
    latent_action_steps: int
    dynamics_steps: int
    clips: int
    prompts: int
    draws: int
    ros_commands: int
    policy_seeds: int


FULL = Sizes(
    train_episodes=160,
    val_episodes=8,
    test_episodes=60,
    frames=25,
    tokenizer_steps=400,
    latent_action_steps=500,
    dynamics_steps=450,
    clips=60,
    prompts=16,
    draws=5,
    ros_commands=200,
    policy_seeds=12,
)
QUICK = Sizes(
    train_episodes=12,
    val_episodes=3,
    test_episodes=10,
    frames=25,
    tokenizer_steps=20,
    latent_action_steps=20,
    dynamics_steps=20,
    clips=8,
    prompts=6,
    draws=1,
    ros_commands=16,
    policy_seeds=1,
)


@dataclass(frozen=True)
class DemoSettings:
    """Where the demo writes, what it judges, and how large it is."""

    out: Path
    model_folder: Path = MODEL_FOLDER
    probe_folder: Path = PROBE_FOLDER
    quick: bool = False
    force: bool = False


def run_demo(settings: DemoSettings) -> Path:
    """Run what is not done yet, write report.json and report.html into `settings.out`; returns the HTML file."""
    for folder, maker in ((settings.model_folder, "make weights"), (settings.probe_folder, "make weights")):
        if not (folder / "model.safetensors").is_file():
            raise ModelFolderError(
                f"no model.safetensors in {folder}; wanted the trained weights; get them or run: {maker}"
            )
    started = time.monotonic()
    with _terminate_as_interrupt():
        records = run_steps(_steps(settings), settings.out, force=settings.force)
    report = assemble(records, settings, this_run_s=time.monotonic() - started)
    folders = {name: settings.out / "steps" / name for name in records}
    results = {name: record.result for name, record in records.items()}
    write_json(settings.out / "report.json", report)
    page = write_html(settings.out / "report.html", report, results, folders)
    print(f"report: {page}  (numbers: {settings.out / 'report.json'})", flush=True)
    return page


@contextmanager
def _terminate_as_interrupt() -> Iterator[None]:
    """SIGTERM stops the demo as Ctrl-C does, so that its child processes are stopped too."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@dataclass(frozen=True)
class _Plan:
    """What the steps have in common."""

    sizes: Sizes
    dataset: Path
    model: Path
    probe: Path

    @property
    def weights(self) -> dict[str, str]:
        """The weights in the box, and the code that runs them."""
        world = hash_sources("config", "nn", "models", "sampling", "simulation/world_session.py")
        return {"weights": hash_files([self.model, self.probe]), "world": world}

    @property
    def judge(self) -> dict[str, str]:
        """The code that judges films."""
        return {"judge": hash_sources("evaluation", "simulation/action_interface.py")}


def _steps(settings: DemoSettings) -> list[Step]:
    plan = _Plan(
        QUICK if settings.quick else FULL,
        settings.out / "steps" / "data" / "dataset",
        settings.model_folder,
        settings.probe_folder,
    )
    makers = (_data, _train, _model, _cache, _ros2, _policies)
    return [make(plan) for make in makers]


def _data(plan: _Plan) -> Step:
    sizes = plan.sizes
    asked = {
        "train_episodes": sizes.train_episodes,
        "val_episodes": sizes.val_episodes,
        "test_episodes": sizes.test_episodes,
        "frames": sizes.frames,
        "seed": DATA_SEED,
    }
    return Step(
        "data",
        "robot episodes in MuJoCo, as an RLDS dataset",
        lambda context: data_step.make_data(context, **asked),
        asked | _code("simulation/mujoco", "data", "demo/data_step.py", "report/pictures.py"),
    )


def _train(plan: _Plan) -> Step:
    overrides = _training_overrides(plan.sizes)
    return Step(
        "train",
        "training all three stages from scratch",
        lambda context: train_step.train(context, plan.dataset, overrides),
        overrides
        | _code("training", "demo/train_step.py")
        | {"world": plan.weights["world"], "recipe": _recipe_hash()},
        needs=("data",),
        resumable=True,
    )


def _model(plan: _Plan) -> Step:
    asked = {"clips": plan.sizes.clips, "prompts": plan.sizes.prompts, "draws": plan.sizes.draws}
    return Step(
        "model",
        "the model in the box on episodes it never saw",
        lambda context: model_step.judge_model(
            context, model_folder=plan.model, probe_folder=plan.probe, dataset=plan.dataset, **asked
        ),
        asked | plan.weights | plan.judge | _code("demo/model_step.py", "report/pictures.py"),
        needs=("data",),
    )


def _cache(plan: _Plan) -> Step:
    return Step(
        "cache",
        "generation with the cache against re-running every frame",
        lambda context: model_step.compare_cache(context, model_folder=plan.model, dataset=plan.dataset),
        plan.weights,
        needs=("data",),
    )


def _ros2(plan: _Plan) -> Step:
    commands = plan.sizes.ros_commands
    return Step(
        "ros2",
        "ROS 2 round trip between two processes",
        lambda context: ros_step.round_trip(
            context, model_folder=plan.model, prompt=plan.dataset, commands=commands
        ),
        plan.weights
        | _code("demo/ros_step.py")
        | {
            "commands": commands,
            "missing": ros_step.missing_parts(),
            "nodes": hash_files([REPOSITORY_ROOT / "ros2_ws" / "src"]),
        },
        needs=("data",),
    )


def _policies(plan: _Plan) -> Step:
    seeds = plan.sizes.policy_seeds
    return Step(
        "policies",
        "robot policies in imagination and in MuJoCo",
        lambda context: policy_step.judge_policies(
            context, model_folder=plan.model, probe_folder=plan.probe, dataset=plan.dataset, seeds=seeds
        ),
        {"seeds": seeds} | plan.weights | plan.judge | _code("simulation", "demo/policy_step.py"),
        needs=("data",),
        resumable=True,
    )


def _code(*parts: str) -> dict[str, str]:
    return {"code": hash_sources(*parts)}


def _training_overrides(sizes: Sizes) -> dict[str, Any]:
    """Hydra words that shorten the tiny recipe: fewer steps, the same everything else."""
    overrides: dict[str, Any] = {"hardware": "cpu"}
    for stage, steps in (
        ("tokenizer", sizes.tokenizer_steps),
        ("latent_action", sizes.latent_action_steps),
        ("dynamics", sizes.dynamics_steps),
    ):
        every = max(10, steps // 4)
        overrides[f"training.{stage}.steps"] = steps
        overrides[f"training.{stage}.validate_every"] = every
        overrides[f"training.{stage}.checkpoint_every"] = every
    return overrides


def _recipe_hash() -> str:
    return hash_files([REPOSITORY_ROOT / "configs", REPOSITORY_ROOT / "train.py"])


def assemble(records: dict[str, StepRecord], settings: DemoSettings, this_run_s: float) -> dict[str, Any]:
    """The content of report.json from the steps' results."""
    results = {name: record.result for name, record in records.items()}
    ros2, policies = results["ros2"], results["policies"]
    metrics = {key: value for key, value in results["model"]["metrics"].items() if key != "label_table"}
    report: dict[str, Any] = {
        "duration_s": round(sum(record.duration_s for record in records.values()), 1),
        "duration_note": "sum of the steps, each as long as it took when it ran; installation not included",
        "this_run_s": round(this_run_s, 1),
        "peak_memory_gib": max(record.peak_memory_gib for record in records.values()),
        "memory_note": "proportional set size of this process and all its children together, sampled every second",
        "quick": settings.quick,
        "model": {
            "is_box": settings.model_folder == MODEL_FOLDER,
            "folder": results["model"]["folder"],
            "hash": results["model"]["hash"],
            **metrics,
        },
        "scratch_model": {
            "seconds": results["train"]["seconds"],
            "stages": {stage["name"]: stage["final"] for stage in results["train"]["stages"]},
        },
        "data": {key: value for key, value in results["data"].items() if key not in {"pictures", "dataset"}},
        "cache": results["cache"],
        "ros2": None
        if "skipped" in ros2
        else {key: value for key, value in ros2.items() if key != "pictures"},
        "policies": None
        if "skipped" in policies
        else {key: value for key, value in policies.items() if key != "films"},
        "skipped": {name: result["skipped"] for name, result in results.items() if "skipped" in result},
        "steps": {
            name: {"duration_s": r.duration_s, "peak_memory_gib": r.peak_memory_gib, "reused": r.reused}
            for name, r in records.items()
        },
        "machine": machine(),
        "settings": {key: str(value) for key, value in asdict(settings).items()},
    }
    report["targets"] = verdicts(report)
    return report


def machine() -> dict[str, Any]:
    """What it ran on: processor, cores, memory, system, versions, commit."""
    packages = (
        "genie_robot",
        "torch",
        "numpy",
        "mujoco",
        "gymnasium",
        "opencv-python-headless",
        "ros-jazzy-rclpy",
    )
    return {
        "processor": cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in packages},
        "commit": git_hash(),
        "time": time.strftime("%Y-%m-%d %H:%M:%S %Z"),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
