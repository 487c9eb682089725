"""The report's sections on data and models. Each turns a step's stored result and pictures into HTML."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from genie_robot.report.charts import Arrow, arrow_chart, line_chart
from genie_robot.report.page import BOX, SCRATCH, TRUTH, figure, number, paragraph, section, table
from genie_robot.report.pictures import image_html, sprite_html

Result = Mapping[str, Any]


def millimetres(displacement_m: list[float]) -> str:
    """A displacement in words: the two largest parts in mm of forward, left, up."""
    names = (("forward", "back"), ("left", "right"), ("up", "down"))
    parts = sorted(
        ((abs(v), pair[v < 0]) for v, pair in zip(displacement_m, names, strict=True)), reverse=True
    )
    big = [f"{size * 1000:.0f} mm {name}" for size, name in parts[:2] if size >= 0.002]
    return ", ".join(big) or "nothing"


def hero(model: Result, folder: Path) -> str:
    """The strongest picture first: one prompt, eight actions, eight futures."""
    rows = model["grid"]["rows"]
    frames = model["grid"]["frames"]
    films = "".join(
        f'<div style="text-align:center">{sprite_html(folder / row["cells"][0], frames, 112)}'
        f"<b>{escape(row['name'])}</b><br><small>action {row['code']}</small></div>"
        for row in rows
    )
    return section(
        "eight",
        "One picture in, eight futures out",
        paragraph(
            f"{BOX} Each film starts from the <em>same</em> camera picture, which the model never saw in training. "
            "Then one of its eight latent actions is given again and again, and the model imagines what the camera would see. "
            "Nobody told the model what a robot, an arm or an action is: it found the eight by watching video. "
            "Their names were measured afterwards, from where the gripper goes, as the robot sees it: the camera faces the robot, so its "
            "left is the right of the picture, and forward is towards you."
        ),
        f'<div class="row" style="gap:14px 16px">{films}</div>',
    )


def data_section(data: Result, folder: Path) -> str:
    """What the demo trains and tests on."""
    rows = [
        [
            escape(split["split"]),
            number(split["episodes"]),
            number(split["frames"]),
            ", ".join(f"{escape(task)} {count}" for task, count in split["tasks"].items()),
            f"{split['solved']} of {split['tried']}",
        ]
        for split in data["splits"]
    ]
    return section(
        "data",
        "1. Robot episodes, made here",
        paragraph(
            f"{TRUTH} Scripted experts of different skill drive a small arm on a table in the MuJoCo physics engine: "
            "push an object onto a disc, or pick it up. Colours, places, light and camera change from episode to episode. "
            f"Written as an RLDS dataset in TFDS form, {data['height']}x{data['width']} pixels at {data['rate_hz']:g} Hz, "
            f"{data['size_mb']:.1f} MB, then read back by the trainer's own reader: {data['bad_records']} bad records. "
            "Train and test come from different random seeds."
        ),
        table(["part", "episodes", "frames", "kinds", "tasks solved"], rows, numbers=(1, 2, 4)),
        figure(
            image_html(folder / data["pictures"]["sheet"], "contact sheet of the dataset", 1.5),
            "One episode a row, time from left to right. Each episode also holds the robot's commands; "
            "<b>training never reads them</b>.",
        ),
    )


def training_section(train: Result, folder: Path) -> str:
    """Curves and samples of the from-scratch run."""
    charts, rows = [], []
    for stage in train["stages"]:
        for curve in stage["curves"]:
            charts.append(
                f'<figure class="chart"><b>{escape(stage["title"])}</b>'
                + line_chart(curve["series"], "step", curve["label"])
                + "</figure>"
            )
        rows.append(
            [
                escape(stage["title"]),
                number(stage["parameters"]),
                number(stage["steps"]),
                number(stage["seconds"], 0, "s"),
                escape(stage["validation"]),
            ]
        )
    pictures = "".join(
        figure(
            image_html(folder / picture["file"], picture["caption"], 0.8),
            f"{SCRATCH} {escape(picture['caption'])}",
        )
        for picture in train["pictures"]
    )
    return section(
        "training",
        "2. Training from scratch, before your eyes",
        paragraph(
            f"{SCRATCH} All three parts are trained here in {train['seconds'] / 60:.1f} minutes on this machine's processor: "
            "the <b>tokenizer</b> turns a picture into a few symbols and back; the <b>latent action model</b> finds out, "
            "from video alone, which eight kinds of change there are; the <b>dynamics</b> learns to imagine the next "
            "picture for each of them. A few minutes prove that the pipeline works. They do not make a good model: "
            "<b>only the pictures of this section come from this run</b>. All others come from the model in the box, "
            "the same code trained longer."
        ),
        table(
            ["stage", "parameters", "steps", "time", "on held-out episodes, at the end"],
            rows,
            numbers=(1, 2, 3),
        ),
        f'<div class="row">{"".join(charts)}</div>',
        pictures,
    )


def imagination_section(model: Result, folder: Path) -> str:
    """Reconstructions and imagined strips of the model in the box."""
    m = model["metrics"]
    shown = "one true frame" if model["prompt_frames"] == 1 else f"{model['prompt_frames']} true frames"
    strips = "".join(_strip_figure(strip, folder) for strip in model["strips"])
    curves = line_chart(
        model["psnr_by_frame"],
        "imagined frame t",
        "PSNR to the truth, dB",
        width=520,
        height=270,
        marks=True,
    )
    return section(
        "imagination",
        "3. The model in the box, on episodes it never saw",
        paragraph(
            f"{BOX} {model['parameters'] / 1e6:.2f} million numbers in <code>{escape(model['folder'])}</code>, trained by the "
            f"committed recipe (<code>make weights</code>). Tested on {model['held_out']['episodes']} episodes "
            f"({model['held_out']['clips']} clips) whose seeds its training never saw."
        ),
        "<h3>Pictures to symbols and back</h3>",
        figure(
            image_html(
                folder / model["pictures"]["reconstructions"], "held-out frames and reconstructions", 1.5
            ),
            f"Above: held-out camera frames. Below: the same after the tokenizer ({model['tokens_per_frame']} symbols a frame). "
            f"PSNR {number(m['tokenizer_psnr_db'], 2, 'dB')}: imagined frames cannot be sharper than this.",
        ),
        "<h3>Imagined beside the truth</h3>",
        paragraph(
            f"The model sees {shown} and then <em>only</em> the latent action of each step, which it reads off the true film. "
            "Left of the line: what it was shown. Right of it: imagined."
        ),
        strips,
        "<h3>Do the actions matter?</h3>",
        figure(
            curves,
            "Similarity to the true film, higher is better. If true actions lie far above random ones, the actions steer "
            f"the picture: at t = 4 the gap is <b>{number(m['delta_psnr_t4_db'], 2, 'dB')}</b> "
            f"(mean over {model['random_draws']} random draws, same sampling seeds in both arms). Copy-last-frame is what a model "
            "reaches that has learnt nothing but to repeat.",
        ),
    )


def _strip_figure(strip: Result, folder: Path) -> str:
    frames = strip["frames"]
    films = "".join(
        f'<div style="text-align:center">{sprite_html(folder / strip[key], frames, 128)}<small>{label}</small></div>'
        for key, label in (("truth", "truth"), ("imagined", "imagined"))
    )
    names = " &rarr; ".join(escape(name) for name in strip["names"])
    pictures = image_html(folder / strip["sheet"], "truth above, imagined below", 1.15)
    return (
        f'<figure><div class="row" style="gap:16px;flex-wrap:nowrap">{films}<div style="min-width:0">{pictures}'
        f"<figcaption>Truth above, imagined below. Actions: {names}</figcaption></div></div></figure>"
    )


def actions_section(model: Result, folder: Path) -> str:
    """The grid, the measured directions and how they agree with the true motion."""
    m, codes = model["metrics"], model["codes"]
    arrows = [
        Arrow(code["name"], *code["displacement_m"])
        for code in codes
        if max(abs(v) for v in code["displacement_m"]) >= 0.003
    ]
    rows = [
        [
            str(code["code"]),
            f"<b>{escape(code['name'])}</b>",
            millimetres(code["displacement_m"]),
            _fingers(code["gripper"]),
            number(code["cosine"]),
            number(100 * code["usage"], 0, "%"),
            escape(
                ", ".join(
                    f"{name} {100 * share:.0f} %" for name, share in list(code["true_directions"].items())[:3]
                )
            ),
        ]
        for code in codes
    ]
    return section(
        "actions",
        "4. Eight actions that nobody named",
        paragraph(
            f"{BOX} The same action from different prompts has to do the same thing. Below: every action (row) from "
            f"{len(model['grid']['rows'][0]['cells'])} prompts (column), {model['grid']['frames'] - 1} imagined steps each."
        ),
        _grid(model["grid"], folder),
        "<h3>What each action does, measured</h3>",
        '<div class="row">'
        + figure(
            arrow_chart(arrows),
            "Gripper displacement in one step, read from the imagined frames by a small state-reading network (the judge).",
        )
        + "</div>",
        table(
            [
                "action",
                "name",
                "moves the gripper by",
                "fingers",
                "same way? (cosine)",
                "share of labels",
                "true motion under this label",
            ],
            rows,
            numbers=(0, 4, 5),
        ),
        paragraph(
            "<b>Agreement with the true motion.</b> The last column is an independent check: true MuJoCo transitions are "
            "labelled by the model from their pictures, and then compared with what the gripper truly did. Normalised mutual "
            f"information {number(m['nmi_direction'], 3)} (1 = the label tells the direction, 0 = it tells nothing); "
            f"with shuffled labels {number(m['nmi_shuffled'], 3)}. {m['codes_used']} of {len(codes)} actions are in use. "
            f"Mean cosine over the actions that move the gripper: {number(m['code_cosine'])}."
        ),
    )


def _grid(grid: Result, folder: Path) -> str:
    prompts = len(grid["rows"][0]["cells"])
    size = 96
    cells = ["<span></span>"] + [
        f'<small style="text-align:center">prompt {index + 1}</small>' for index in range(prompts)
    ]
    for row in grid["rows"]:
        cells.append(f"<span><b>{escape(row['name'])}</b><br><small>action {row['code']}</small></span>")
        cells += [sprite_html(folder / file, grid["frames"], size) for file in row["cells"]]
    columns = f"grid-template-columns:110px repeat({prompts},{size}px)"
    return f'<div class="grid" style="{columns}">{"".join(cells)}</div>'


def _fingers(gripper: float) -> str:
    if abs(gripper) < 0.05:
        return "&ndash;"
    return f"{'open' if gripper > 0 else 'close'} by {100 * abs(gripper):.0f} %"
