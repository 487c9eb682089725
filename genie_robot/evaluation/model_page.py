"""The report of `evaluate model`: one HTML file with its curves, numbers and what was not measured."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import cv2
import numpy as np

from genie_robot.evaluation.drift import Drift
from genie_robot.evaluation.model_protocol import ModelReport
from genie_robot.report.charts import line_chart
from genie_robot.report.page import figure, number, page, paragraph, section, table, tile

#: curve -> (title, unit); in this order
CURVES: dict[str, tuple[str, str]] = {
    "psnr_db": ("PSNR", "dB"),
    "ssim": ("SSIM", ""),
    "ee_median_cm": ("Gripper error, median", "cm"),
    "object_median_cm": ("Object error, median", "cm"),
    "object_permanence": ("Object still there", "share of clips"),
}
KINDS = {
    "imagined": "imagined",
    "copy_last": "copy the last prompt frame",
    "tokenizer": "tokenizer alone",
    "true_frames": "probe on true frames",
}
DRIVES = {"latent": "Driven by inferred latent actions", "robot": "Driven by robot actions"}
#: dotted place in the metrics -> (meaning, unit, digits)
NUMBERS: dict[str, tuple[str, str, int]] = {
    "tokenizer_psnr_db": ("tokenizer PSNR: the upper bound of everything imagined", "dB", 2),
    "psnr_t4_db": ("PSNR of the 4th imagined frame", "dB", 2),
    "copy_last_psnr_t4_db": ("the same for repeating the last prompt frame", "dB", 2),
    "ssim_t4": ("SSIM of the 4th imagined frame", "", 3),
    "st_lpips_alex_t4": ("ST-LPIPS (alex) of the 4th imagined frame, lower is better; not LPIPS", "", 4),
    "delta_psnr_t4_db": ("Delta PSNR, latent actions: inferred minus random", "dB", 2),
    "robot_actions.delta_psnr_t4_db": ("Delta PSNR, robot actions: own minus another episode's", "dB", 2),
    "delta_st_lpips_alex_t4": ("Delta ST-LPIPS, latent actions", "", 4),
    "robot_actions.delta_st_lpips_alex_t4": ("Delta ST-LPIPS, robot actions", "", 4),
    "fvd_el0.value": ("fvd_el0: EfficientNet-Lite0 video distance, not comparable to I3D FVD", "", 3),
    "fvd_el0.gt_vs_gt": ("the same between two sets of true clips", "", 3),
    "fd_state.value": ("Frechet distance of probed state trajectories", "", 3),
    "fd_state.gt_vs_gt": ("the same between two sets of true clips", "", 3),
    "fvd.value": ("FVD with the given I3D network", "", 1),
    "fvd.gt_vs_gt": ("the same between two sets of true clips", "", 1),
    "code_perplexity": ("perplexity of the latent codes", "", 2),
    "nmi_direction": ("mutual information of code and true motion, normalised", "", 3),
    "nmi_shuffled": ("the same with shuffled codes", "", 3),
    "linear_probes.codes.r2_mean": ("robot action read from the codes, mean R^2", "", 3),
    "linear_probes.vectors.r2_mean": ("from the vectors before the quantizer", "", 3),
    "linear_probes.shuffled.r2_mean": ("floor: vectors of other steps", "", 3),
    "linear_probes.inverse_dynamics.r2_mean": ("ceiling: probed states of the two true frames", "", 3),
    "cycle_consistency.rate": ("imagined steps labelled with the code that caused them", "", 3),
    "cycle_consistency.chance": ("the same by chance", "", 3),
    "consistency.code_consistency": ("cosine of a code's motions, minus that of different codes", "", 3),
    "drift_latent.h_eps": ("first h with a median gripper error above 2 cm, latent actions", "frames", 0),
    "drift_robot.h_eps": ("the same, robot actions", "frames", 0),
    "drift_robot.inverse_dynamics.excess": ("excess error of the action read back from imagination", "", 4),
    "counterfactual.ee.right_sign": ("counterfactual pairs: gripper goes the right way", "", 3),
    "counterfactual.object.right_sign": ("counterfactual pairs: object goes the right way", "", 3),
}


def lookup(metrics: Mapping[str, Any], place: str) -> Any:
    """The number at a dotted place, or None."""
    value: Any = metrics
    for part in place.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def render(report: ModelReport, model_name: str, strips: np.ndarray) -> str:
    """The page as text. strips: the picture of `strip_picture`, uint8 (Y, X, 3)."""
    metrics = report.metrics
    shown = (
        ("psnr_t4_db", "dB", "PSNR of the 4th imagined frame"),
        ("delta_psnr_t4_db", "dB", "Delta PSNR, latent actions"),
        ("robot_actions.delta_psnr_t4_db", "dB", "Delta PSNR, robot actions"),
    )
    tiles = [
        tile(f"{value:.2f} {unit}", meaning)
        for place, unit, meaning in shown
        if (value := lookup(metrics, place)) is not None
    ]
    header = (
        f"<h1>World model {escape(model_name)}</h1><p>{metrics['clips']} clips of held-out episodes, "
        f"{metrics['prompt_frames']} true frame(s) as prompt. Agreement with MuJoCo, where states are known.</p>"
        f'<div class="tiles">{"".join(tiles)}</div>'
    )
    body = [
        section("numbers", "Numbers", _numbers(metrics)),
        *(_drift_section(name, report.drifts[name]) for name in DRIVES if name in report.drifts),
        section("films", "Films", figure(_image(strips), "True frames, tokenizer alone, imagined.")),
        _missing(metrics["not_measured"]),
    ]
    footer = (
        f"model {escape(str(metrics['model_hash']))}, seed {metrics['seed']}, {metrics['maskgit_steps']} sampling passes, "
        f"temperature {metrics['temperature']}, {metrics['draws']} draws of other actions"
    )
    return page(f"World model {model_name}", header, "\n".join(body), footer)


def _numbers(metrics: Mapping[str, Any]) -> str:
    rows = [
        (f"<code>{place}</code>", number(value, digits, unit), escape(meaning))
        for place, (meaning, unit, digits) in NUMBERS.items()
        if (value := lookup(metrics, place)) is not None
    ]
    return table(("name in the JSON", "value", "meaning"), rows, numbers=(1,))


def _drift_section(name: str, drift: Drift) -> str:
    charts = []
    for curve, (title, unit) in CURVES.items():
        if curve not in drift.curves:
            continue
        series = {KINDS[kind]: _points(values) for kind, values in drift.curves[curve].items()}
        label = f"{title} [{unit}]" if unit else title
        charts.append(
            f'<div class="chart" style="width:440px"><b>{escape(title)}</b>{line_chart(series, "frame h", label, width=440)}</div>'
        )
    text = (
        f"{drift.metrics['clips']} clips, {drift.metrics['horizon']} imagined frames each. Worse than copying the last "
        "frame is worse than knowing nothing; the tokenizer alone is the best that can be reached."
    )
    return section(
        f"drift_{name}", DRIVES[name], paragraph(text), f'<div class="row">{"".join(charts)}</div>'
    )


def _points(values: Sequence[float | None]) -> list[tuple[float, float]]:
    return [(index + 1, value) for index, value in enumerate(values) if value is not None]


def _image(picture: np.ndarray) -> str:
    ok, data = cv2.imencode(".png", np.ascontiguousarray(picture[..., ::-1]))
    assert ok, f"OpenCV did not encode a picture of {picture.shape}"
    return f'<img alt="films" src="data:image/png;base64,{base64.b64encode(data.tobytes()).decode()}">'


def _missing(reasons: Mapping[str, str]) -> str:
    if not reasons:
        return section("missing", "Not measured", paragraph("Nothing: every part was measured."))
    rows = [(f"<code>{escape(name)}</code>", escape(reason)) for name, reason in reasons.items()]
    return section("missing", "Not measured", table(("part", "why"), rows))
