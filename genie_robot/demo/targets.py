"""What the demo is measured against: each target reads its value from report.json and says whether it was reached."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Report = Mapping[str, Any]


def value_at(report: Report, key: str) -> Any:
    """The value behind a dotted key, or None where it is missing."""
    value: Any = report
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return None
        value = value[part]
    return value


@dataclass(frozen=True)
class Target:
    """One line of the table. `reached(value, report)` decides; None as value means that the part was not run."""

    key: str
    what: str
    wanted: str
    reached: Callable[[Any, Report], bool]
    unit: str = ""
    digits: int = 2
    against: str = ""  # key of the value to compare with, shown beside it

    def verdict(self, report: Report) -> bool | None:
        """True reached, False missed, None not measured."""
        value = value_at(report, self.key)
        return None if value is None else bool(self.reached(value, report))

    def shown(self, report: Report) -> str:
        """The value as text."""
        value = value_at(report, self.key)
        if value is None:
            return "not measured"
        if isinstance(value, bool):
            return "yes" if value else "no"
        text = f"{value:,}" if isinstance(value, int) else f"{value:,.{self.digits}f}"
        other = value_at(report, self.against) if self.against else None
        beside = "" if other is None else f" against {other:,.{self.digits}f}"
        return f"{text}{beside} {self.unit}".strip()


def at_least(bound: float) -> Callable[[Any, Report], bool]:
    """Reached when value >= bound."""
    return lambda value, report: value >= bound


def at_most(bound: float) -> Callable[[Any, Report], bool]:
    """Reached when value <= bound."""
    return lambda value, report: value <= bound


def above(other: str) -> Callable[[Any, Report], bool]:
    """Reached when value > the report's value at key `other`."""
    return lambda value, report: value > value_at(report, other)


def is_true(value: Any, report: Report) -> bool:
    """Reached when the value is true."""
    return value is True


TARGETS: tuple[Target, ...] = (
    Target("model.tokenizer_psnr_db", "Pictures survive compression to tokens and back (PSNR, held-out episodes)",
           "at least 28 dB", at_least(28.0), "dB"),
    Target("model.psnr_t4_db", "Imagined frame 4 is nearer the truth than repeating the last seen frame (all pixels)",
           "above copy-last-frame", above("model.copy_last_psnr_t4_db"), "dB", against="model.copy_last_psnr_t4_db"),
    Target("model.moving_psnr_t4_db", "The same, on the pixels that moved",
           "above copy-last-frame", above("model.moving_copy_last_psnr_t4_db"), "dB", against="model.moving_copy_last_psnr_t4_db"),
    Target("model.delta_psnr_t4_db", "Actions steer the picture: true actions against random ones (delta PSNR, t = 4)",
           "at least 2.07 dB", at_least(2.07), "dB"),
    Target("model.codes_used", "Latent actions in use, of 8", "at least 6", at_least(6)),
    Target("model.nmi_direction", "Latent action tells the true motion direction (normalised mutual information)",
           "at least 0.35", at_least(0.35), digits=3),
    Target("model.nmi_shuffled", "The same with shuffled codes, where nothing may be left",
           "at most 0.05", at_most(0.05), digits=3),
    Target("model.code_cosine", "The same action moves the gripper the same way from different prompts (mean cosine)",
           "at least 0.5", at_least(0.5)),
    Target("cache.tokens_identical", "Generation with the cache gives the same tokens as re-running every frame",
           "identical", is_true),
    Target("ros2.frames", "ROS 2: imagined frames for 200 latent-action commands",
           "200", lambda value, report: value == value_at(report, "ros2.commands") == 200),
    Target("ros2.in_order", "ROS 2: frames in order, none lost, none twice", "yes", is_true),
    Target("ros2.overhead_p99_ms", "ROS 2: transport time per frame beside the model, 99th percentile",
           "at most 10 ms", at_most(10.0), "ms"),
    Target("policies.best_and_worst_told_apart", "Imagination tells the best policy from the worst as MuJoCo does", "yes", is_true),
    Target("duration_s", "Whole demo, without installation", "at most 900 s", at_most(900.0), "s", 0),
    Target("peak_memory_gib", "Peak memory, all processes together", "at most 6 GiB", at_most(6.0), "GiB"),
)  # fmt: skip


def verdicts(report: Report) -> list[dict[str, Any]]:
    """Every target with its value and verdict, as plain JSON for report.json."""
    return [
        {
            "key": target.key,
            "wanted": target.wanted,
            "value": value_at(report, target.key),
            "reached": target.verdict(report),
        }
        for target in TARGETS
    ]
