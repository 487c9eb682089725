"""All of `evaluate model` in one go: each part is measured where data and model allow it, or said to be missing, and why.

Parts: short clips (`model_eval`), robot actions against another episode's, latent actions (probes, usage, cycle,
consistency), Frechet distances, drift over long clips, counterfactual pairs. A part that cannot be measured is named
under `not_measured` with the reason; the others lose nothing by it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from genie_robot.data.episode import Episode
from genie_robot.errors import ActionError, ConfigError, DataError
from genie_robot.evaluation.consistency import code_consistency
from genie_robot.evaluation.controllability import measure_delta, of_another_episode
from genie_robot.evaluation.counterfactual import counterfactual_pairs
from genie_robot.evaluation.drift import Drift, inverse_dynamics_excess, measure_drift
from genie_robot.evaluation.frechet import fd_state, fvd, fvd_el0
from genie_robot.evaluation.heldout import STATE_SIZES, HeldOut, collect_clips
from genie_robot.evaluation.imagination import T4, ModelEvalConfig, Progress, RobotDrive, films
from genie_robot.evaluation.latent_probes import code_health, cycle_consistency, linear_probes
from genie_robot.evaluation.model_eval import ModelEvaluation, evaluate_model
from genie_robot.evaluation.probe import ProbePair
from genie_robot.evaluation.st_lpips import SMALLEST, ShiftTolerantLpips, load_st_lpips
from genie_robot.simulation.action_interface import ActionAdapter, infer_codes
from genie_robot.simulation.suites import suite_of_size

LONGEST_HORIZON = 64
NO_PROBE = "no state probe was given; wanted one that reads these pictures; give --probe"
NO_STATES = "the episodes have no true states; wanted those of a simulated dataset"
NO_ACTIONS = "the episodes have no robot actions, or were opened without; wanted a dataset with actions"


@dataclass
class ModelReport:
    """`metrics` is ready for JSON; `drifts`: "latent" and "robot" -> curves; `evaluation` has the short films."""

    metrics: dict[str, Any]
    evaluation: ModelEvaluation
    drifts: dict[str, Drift] = field(default_factory=dict)

    def add(self, name: str, measure: Callable[[], dict[str, Any]]) -> None:
        """Put a part under its name, or the reason why it is missing under `not_measured`."""
        try:
            self.metrics[name] = measure()
        except (ActionError, ConfigError, DataError) as error:
            self.metrics["not_measured"][name] = str(error)


@dataclass(frozen=True)
class Protocol:
    """What is evaluated on what. episodes: held out; clips: how many short and long ones; i3d: a user's TorchScript."""

    model: Any
    episodes: Sequence[Episode]
    config: ModelEvalConfig
    clips: int
    probes: ProbePair | None = None
    adapter: ActionAdapter | None = None
    i3d: Path | None = None
    longest_horizon: int = LONGEST_HORIZON

    @property
    def steps(self) -> int:
        """How often `run` says where it is, where nothing is missing."""
        return 8 + 2 * self.config.draws

    def run(self, say: Progress = lambda _: None) -> ModelReport:
        """Measure everything; ConfigError for a probe of another suite, DataError for less than two short clips."""
        config, missing = self.config, {}
        self._check_probe()
        short = self._clips(config.clip_frames)
        whole = collect_clips(self.episodes, clips=len(self.episodes), frames=self._lengths()[0])
        network = _optional(self._st_lpips, "st_lpips_alex", missing)
        evaluation = evaluate_model(self.model, short, config, say, label_clips=whole, network=network)
        report = ModelReport(evaluation.metrics | {"not_measured": missing}, evaluation)
        say("robot actions")
        report.add("robot_actions", lambda: self._robot_delta(short, network, say))
        say("latent actions")
        self._latent(report, whole)
        say("Frechet distances")
        self._frechet(report)
        say("drift")
        self._drift(report)
        say("counterfactual pairs")
        report.add("counterfactual", lambda: self._counterfactual(short))
        return report

    def _check_probe(self) -> None:
        """Its numbers would be read at the wrong places of the state, and look like any others."""
        if self.probes is None:
            return
        names = self.probes.judge.state_names
        for size in {e.state_TS.shape[-1] for e in self.episodes if e.state_TS is not None} & STATE_SIZES:
            suite = suite_of_size(size)
            if names != suite.state_names:
                raise ConfigError(
                    f"the probe reads the {len(names)} numbers of the suite {suite_of_size(len(names)).name}, but the data have "
                    f"states of {size} numbers, of the suite {suite.name}; give --probe weights/{suite.name}-probe, or none"
                )

    def _lengths(self) -> list[int]:
        """Frames of the episodes with room for a short clip, shortest first: a stub would cut all others to its length."""
        return sorted(e.num_frames for e in self.episodes if e.num_frames >= self.config.clip_frames)

    def _st_lpips(self) -> ShiftTolerantLpips:
        size = self.model.image_height, self.model.image_width
        if min(size) < SMALLEST:
            raise ConfigError(
                f"st_lpips_alex: frames are {size[0]}x{size[1]} pixels; wanted {SMALLEST} or more a side"
            )
        return load_st_lpips()

    def _clips(self, frames: int) -> HeldOut:
        return collect_clips(self.episodes, clips=self.clips, frames=frames, seed=self.config.seed)

    def _drive(self, clips: HeldOut) -> tuple[RobotDrive, np.ndarray, np.ndarray | None]:
        """How robot actions drive the model, those of the clips' imagined steps (B, H, 7), and the states before them."""
        if clips.actions_BSA is None:
            raise DataError(NO_ACTIONS)
        last = self.config.prompt_frames - 1
        starts_BK = None if clips.states_BTS is None else clips.states_BTS[:, last]
        return RobotDrive(self.model, self.adapter), clips.actions_BSA[:, last:], starts_BK

    def _robot_delta(
        self, clips: HeldOut, network: ShiftTolerantLpips | None, say: Progress
    ) -> dict[str, Any]:
        """Delta PSNR of the clips' own robot actions against those of other episodes."""
        config = self.config
        drive, actions, starts = self._drive(clips)
        inputs = drive.inputs(actions, starts)
        prompts, future = np.split(clips.video_BTYXC, [config.prompt_frames], axis=1)
        own = films(self.model, prompts, inputs[:, :T4], config)[:, T4]
        rng = np.random.default_rng(config.seed)
        others = [
            drive.inputs(actions[of_another_episode(len(inputs), rng)], starts) for _ in range(config.draws)
        ]
        delta = measure_delta(
            self.model, prompts, future[:, T4 - 1], own, others, config, network=network, say=say
        )
        return {"interface": drive.interface, **delta.metrics(config.seed)}

    def _latent(self, report: ModelReport, whole: HeldOut) -> None:
        settings = self.model.config.latent_action
        size, seed = self.config.batch_size, self.config.seed
        parts = [infer_codes(self.model, whole.video_BTYXC[k : k + size]) for k in range(0, len(whole), size)]
        codes = np.concatenate(parts)
        report.add("code_health", lambda: code_health(codes, settings.num_actions, settings.num_codebooks))
        evaluation = report.evaluation
        report.add(
            "cycle_consistency", lambda: cycle_consistency(self.model, evaluation.film, evaluation.codes)
        )

        def probes() -> dict[str, Any]:
            if whole.actions_BSA is None:
                raise DataError(NO_ACTIONS)
            seen = None if self.probes is None else self.probes.judge(whole.video_BTYXC)
            return linear_probes(
                self.model, whole.video_BTYXC, whole.actions_BSA, true_states_BTS=seen, seed=seed
            )

        report.add("linear_probes", probes)
        report.add("consistency", self._consistency)
        # Its place before there were parts; null says that it is missing and `not_measured` why.
        report.metrics["code_cosine"] = report.metrics.get("consistency", {}).get("code_cosine")

    def _consistency(self) -> dict[str, Any]:
        if self.probes is None:
            raise ConfigError(NO_PROBE)
        return code_consistency(self.model, self.episodes, self.probes, self.config)

    def _frechet(self, report: ModelReport) -> None:
        truth, imagined, seed = report.evaluation.truth, report.evaluation.imagined, self.config.seed
        report.add("fvd_el0", lambda: fvd_el0(truth, imagined, seed))
        i3d = self.i3d
        if i3d is not None:
            report.add("fvd", lambda: fvd(truth, imagined, i3d, seed))

        def of_states() -> dict[str, Any]:
            if self.probes is None:
                raise ConfigError(NO_PROBE)
            return fd_state(self.probes.judge(truth), self.probes.judge(imagined), seed)

        report.add("fd_state", of_states)

    def _drift(self, report: ModelReport) -> None:
        """Drift under latent and under robot actions; the latter with inverse dynamics."""
        config = self.config
        # As far as half of the episodes reach; of two, both.
        lengths = self._lengths()
        reach = lengths[(len(lengths) - 1) // 2] - config.prompt_frames
        clips = self._clips(config.prompt_frames + min(self.longest_horizon, reach))

        def latent() -> dict[str, Any]:
            codes = infer_codes(self.model, clips.video_BTYXC)[:, config.prompt_frames - 1 :]
            return self._one_drift(report, "latent", clips, codes).metrics

        def robot() -> dict[str, Any]:
            drive, actions, starts = self._drive(clips)
            drift = self._one_drift(report, "robot", clips, drive.inputs(actions, starts))
            result = {"interface": drive.interface, **drift.metrics}
            if self.probes is not None:
                probe = self.probes.judge
                result["inverse_dynamics"] = inverse_dynamics_excess(
                    probe, clips, drift.film_BTYXC, config, config.seed
                )
            return result

        report.add("drift_latent", latent)
        report.add("drift_robot", robot)
        if clips.states_BTS is None or self.probes is None:
            reason = NO_PROBE if self.probes is None else NO_STATES
            report.metrics["not_measured"]["state_error"] = reason

    def _one_drift(self, report: ModelReport, name: str, clips: HeldOut, inputs: np.ndarray) -> Drift:
        drift = measure_drift(self.model, clips, inputs, self.config, self.probes)
        report.drifts[name] = drift
        return drift

    def _counterfactual(self, clips: HeldOut) -> dict[str, Any]:
        if self.probes is None:
            raise ConfigError(NO_PROBE)
        drive, actions, _ = self._drive(clips)
        if clips.states_BTS is None:
            raise DataError(NO_STATES)
        if importlib.util.find_spec("mujoco") is None:
            raise ConfigError("MuJoCo is not installed; pip install 'genie_robot[sim]'")
        suite = suite_of_size(clips.states_BTS.shape[-1])
        return {
            "interface": drive.interface,
            **counterfactual_pairs(self.model, suite, actions, drive.inputs, self.probes.judge, self.config),
        }


def _optional(load: Callable[[], Any], name: str, missing: dict[str, str]) -> Any:
    """What `load` gives, or None with the reason put under `name`."""
    try:
        return load()
    except ConfigError as error:
        missing[name] = str(error)
        return None
