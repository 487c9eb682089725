"""The report's sections on speed, ROS 2, policies, targets and limits."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from genie_robot.demo.targets import TARGETS, value_at
from genie_robot.report.charts import ScatterPoint, scatter_chart
from genie_robot.report.page import BOX, TRUTH, figure, number, paragraph, section, table, tile, verdict_mark
from genie_robot.report.pictures import image_html

Result = Mapping[str, Any]


def header(report: Result) -> str:
    """Headline, what was shown, four numbers."""
    reached = [target.verdict(report) for target in TARGETS]
    policies, ros2 = report.get("policies"), report.get("ros2")
    tiles = [
        tile(f"{reached.count(True)} of {len(reached)}", "targets reached, each listed below"),
        tile(
            number(value_at(report, "model.delta_psnr_t4_db"), 2, "dB").replace("&ndash;", "-"),
            "how much the actions steer the picture (2.07 dB is the Genie paper's figure on robots)",
        ),
        tile(
            f"{ros2['frames']} / {ros2['commands']}" if ros2 else "not run",
            "imagined frames for ROS 2 commands" if ros2 else "ROS 2 was left out on this machine",
        ),
        tile(
            _r_in_short(policies),
            f"policies judged in imagination against MuJoCo ({policies['n']} policies)"
            if policies
            else "policies not judged",
        ),
    ]
    return (
        "<h1>A robot simulator, learned from video alone</h1>"
        "<p>Robot films without a single action label go in; a world that can be steered comes out. "
        "This page was made by one command on one machine: films, training, imagination, ROS 2, "
        "and robot policies judged inside the imagined world, with every number measured in this run.</p>"
        f'<div class="tiles">{"".join(tiles)}</div>'
        '<nav><a href="#targets">Targets</a><a href="#eight">Eight futures</a><a href="#data">Data</a>'
        '<a href="#training">Training</a><a href="#imagination">Imagination</a><a href="#actions">Actions</a>'
        '<a href="#speed">Speed</a><a href="#ros">ROS 2</a><a href="#policies">Policies</a><a href="#limits">Limits</a></nav>'
    )


def _r_in_short(policies: Result | None) -> str:
    if not policies:
        return "not run"
    return "r undefined" if policies.get("pearson_r") is None else f"r = {policies['pearson_r']:.2f}"


def targets_section(report: Result) -> str:
    """Target against reached, honestly."""
    rows = [
        [
            escape(target.what),
            escape(target.wanted),
            target.shown(report),
            verdict_mark(target.verdict(report)),
        ]
        for target in TARGETS
    ]
    return section(
        "targets",
        "What it was to reach, and what it reached",
        table(["what", "wanted", "measured", ""], rows, numbers=(2,)),
        '<div class="pipeline"><div><b>1 Films</b>MuJoCo episodes as an RLDS dataset</div><div><b>2 Train</b>tokenizer, latent '
        "actions, dynamics, without action labels</div><div><b>3 Imagine</b>prompt frames + latent actions give new frames</div>"
        "<div><b>4 ROS 2</b>the model answers as a simulator node</div><div><b>5 Judge</b>robot policies act in imagination "
        "and in MuJoCo</div></div>",
    )


def speed_section(cache: Result) -> str:
    """Cache against re-running."""
    same = "identical, token for token" if cache["tokens_identical"] else "<b>not identical</b>"
    rates = ""
    if "cached_frames_per_s" in cache:
        rates = (
            f" Per second of processor time: {number(cache['cached_frames_per_s'], 1)} imagined frames with it, "
            f"{number(cache['recomputed_frames_per_s'], 1)} without."
        )
    return section(
        "speed",
        "5. Fast without cutting corners",
        paragraph(
            f"{BOX} Finished frames never change, so their inner state is kept and each new frame costs only itself. "
            f"Against re-running the whole film for each frame, in fp32, the tokens are {same}; "
            f"generation is <b>{number(cache['speedup'], 1)} times</b> as fast.{rates}"
        ),
    )


def ros_section(ros2: Result, folder: Path) -> str:
    """The round trip through ROS 2."""
    title = "6. As a ROS 2 simulator"
    if "skipped" in ros2:
        return section("ros", title, f'<p class="note">Left out: {escape(ros2["skipped"])}</p>')
    burst = ros2["burst"]
    rows = [
        ["commands sent, one at a time", number(ros2["commands"])],
        ["imagined frames received", f"{number(ros2['frames'])}, {_order(ros2)}"],
        [
            "then sent all at once",
            f"{number(burst['commands'])} commands, {number(burst['frames'])} frames, {_order(burst)}",
        ],
        ["command to frame, model included, median / p99", _pair(ros2, "round_trip")],
        ["the model's share, median / p99", _pair(ros2, "model")],
        ["<b>everything but the model, median / p99</b>", f"<b>{_pair(ros2, 'overhead')}</b>"],
    ]
    if ros2.get("echo_p50_ms") is not None:
        rows.append(["for comparison: an image echoed by bare rclpy on this machine", _pair(ros2, "echo")])
    return section(
        "ros",
        title,
        paragraph(
            f"{BOX} The simulator ran as its own process under real ROS 2 Jazzy (rclpy, DDS over loopback). A second process sent "
            "latent actions on <code>latent_action</code> and received camera images on <code>imagined/image_raw</code>, "
            "as from a robot. In RViz the eight actions are arrows, the active one lit."
        ),
        table(["", "measured"], rows),
        figure(
            image_html(folder / ros2["pictures"]["sheet"], "frames received over ROS 2", 0.75),
            f"{BOX} What came back over ROS 2: each action (row) given again and again from one prompt.",
        ),
    )


def _order(part: Result) -> str:
    fine = part["in_order"] and not part["lost"] and not part["duplicated"]
    if fine:
        return "in order, none lost, none twice"
    order = "in order" if part["in_order"] else "not in order"
    return f"<b>{order}, {part['lost']} lost, {part['duplicated']} twice</b>"


def _pair(ros2: Result, name: str) -> str:
    return f"{number(ros2[f'{name}_p50_ms'], 1)} / {number(ros2[f'{name}_p99_ms'], 1)} ms"


def policies_section(policies: Result, folder: Path) -> str:
    """Policies in imagination and in MuJoCo."""
    title = "7. Judging robot policies without the robot"
    if "skipped" in policies:
        return section("policies", title, f'<p class="note">Left out: {escape(policies["skipped"])}</p>')
    points, rows = [], []
    for cell in policies["table"]:
        truth, dream = cell["mujoco"], cell["imagined"]
        points.append(
            ScatterPoint(
                truth["rate"],
                dream["rate"],
                tuple(truth["wilson"]),
                tuple(dream["wilson"]),
                cell["policy"],
                cell["task"],
            )
        )
        codes = [_rate(cell["interface"])] if "interface" in cell else []
        rows.append([escape(cell["policy"]), escape(cell["task"]), _rate(truth), *codes, _rate(dream)])
    head = [
        "policy",
        "task",
        "MuJoCo",
        *(["MuJoCo through the eight actions"] if codes else []),
        "imagination",
    ]
    gaps = policies["best_against_worst"]
    agree = "tells" if policies["best_and_worst_told_apart"] else "does <b>not</b> tell"
    return section(
        "policies",
        title,
        paragraph(
            f"{BOX} {TRUTH} {policies['n']} policies from expert to hopeless, {len(policies['tasks'])} tasks "
            f"({escape(', '.join(policies['tasks']))}), {policies['seeds']} starts each, {policies['episodes']} episodes in all. "
            "Policies see pictures only, and start from the same picture in the imagined world and in MuJoCo. In imagination "
            "success is read from the pictures by the judge; in MuJoCo by the physics. A good simulator puts the policies in "
            "the same order."
        ),
        '<div class="row">'
        + figure(
            scatter_chart(points, "success in MuJoCo", "success in imagination"),
            "A dot is a policy on a task, with 95 % Wilson intervals. On the dashed line both worlds agree.",
        )
        + f"<div>{table(['agreement over policies', ''], _agreement_rows(policies))}"
        + f"<p>Imagination {agree} the best policy ({escape(policies['best_policy'])}) from the worst "
        f"({escape(policies['worst_policy'])}): gap {number(gaps['imagined']['gap'])} (p = {gaps['imagined']['p_value']:.3g}); "
        f"in MuJoCo {number(gaps['mujoco']['gap'])} (p = {gaps['mujoco']['p_value']:.3g}).</p></div></div>",
        table(head, rows, numbers=tuple(range(2, len(head)))),
        paragraph(
            "<small>The middle column, where it stands, sends each policy's command through the eight actions and back inside MuJoCo: "
            "what is lost there is lost by having only eight actions, not by the imagination.</small>"
        ),
        _films(policies, folder),
    )


def _films(policies: Result, folder: Path) -> str:
    titles = {"mujoco": TRUTH, "imagined": BOX}
    return "".join(
        figure(
            image_html(folder / film["file"], f"{film['policy']} on {film['task']} in {film['world']}", 1.5),
            f"{titles[film['world']]} <b>{escape(film['policy'])}</b>, task {escape(film['task'])}, same start.",
        )
        for film in policies["films"]
    )


def _agreement_rows(policies: Result) -> list[list[str]]:
    low, high = policies["fisher_interval"]
    return [
        ["Pearson r (95 % interval)", f"{number(policies['pearson_r'])} ({number(low)} to {number(high)})"],
        ["highest r that so few episodes allow", number(policies["ceiling_r"])],
        ["Spearman rho", number(policies["spearman_rho"])],
        [
            "MMRV, 0 is best (at so few episodes)",
            f"{number(policies['mmrv'])} ({number(policies['ceiling_mmrv'])})",
        ],
        ["mean error of a success rate", number(policies["mean_abs_error"])],
        ["episodes with the same outcome", number(100 * policies["episode_agreement"], 0, "%")],
        ["the judge on true pictures, r", number(policies["judge_on_true_pictures"]["pearson_r"])],
    ]


def _rate(side: Result) -> str:
    low, high = side["wilson"]
    return (
        f"{side['successes']} of {side['trials']} <small>({100 * low:.0f}&ndash;{100 * high:.0f} %)</small>"
    )


def limits_section(report: Result) -> str:
    """What this does not show."""
    missed = [target for target in TARGETS if target.verdict(report) is False]
    items = [
        f"<b>Missed:</b> {escape(t.what)}: {t.shown(report)}, wanted {escape(t.wanted)}." for t in missed
    ]
    items += [
        f"<b>Not run:</b> {escape(name)}: {escape(reason)}" for name, reason in report["skipped"].items()
    ]
    items += [
        "Everything is small: one simulated arm, one camera, 64x64 pixels, two tasks, a model of about a million parameters.",
        "The arm moves along one axis at a time, as under keyboard teleoperation. Eight actions can carry that; free "
        "motion in seven dimensions needs more codes or continuous actions.",
        "Imagined films drift: the further from the prompt, the less they should be trusted. Small objects fade first.",
        "The judge that reads gripper, object and goal from pictures makes errors of its own, in imagination most of all.",
        "Few episodes a policy: the intervals in section 7 are wide, and r says little beyond telling good from bad.",
        "Real robots are not shown here. The reader opens RT-1 and Bridge episodes, but this model has not learnt from them.",
    ]
    return section(
        "limits", "What this does not show", "<ul>" + "".join(f"<li>{item}</li>" for item in items) + "</ul>"
    )
