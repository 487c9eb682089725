"""report.html: the steps' results and pictures as one page that needs no other file."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from genie_robot.demo import sections_model, sections_system
from genie_robot.errors import DiskFullError
from genie_robot.report.page import page, table

Results = Mapping[str, Mapping[str, Any]]


def write_html(path: Path, report: Mapping[str, Any], results: Results, folders: Mapping[str, Path]) -> Path:
    """Write the page; `folders` are the steps' folders that hold the pictures named in `results`."""
    body = [
        _notes(report),
        sections_model.hero(results["model"], folders["model"]),
        sections_system.targets_section(report),
        sections_model.data_section(results["data"], folders["data"]),
        sections_model.training_section(results["train"], folders["train"]),
        sections_model.imagination_section(results["model"], folders["model"]),
        sections_model.actions_section(results["model"], folders["model"]),
        sections_system.speed_section(results["cache"]),
        sections_system.ros_section(results["ros2"], folders["ros2"]),
        sections_system.policies_section(results["policies"], folders["policies"]),
        sections_system.limits_section(report),
    ]
    html = page("genie_robot demo", sections_system.header(report), "\n".join(body), _footer(report))
    temporary = path.with_suffix(".tmp")
    try:
        temporary.write_text(html, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise DiskFullError(
            f"could not write {path} ({error.strerror}); free some space and run it again"
        ) from error
    return path


def _notes(report: Mapping[str, Any]) -> str:
    """What a reader must know before anything else: another model than the one in the box, or a quick run."""
    notes = ""
    if not report["model"]["is_box"]:
        folder = escape(report["model"]["folder"])
        notes = (
            f'<p class="note" style="margin-top:24px"><b>Another model.</b> "Model in the box" means <code>{folder}</code> '
            "on this page, named with <code>--model</code>.</p>"
        )
    if not report["quick"]:
        return notes
    return notes + (
        '<p class="note" style="margin-top:24px"><b>Quick run.</b> Made with <code>--quick</code>: tiny sizes, to see that '
        "everything runs. Its numbers say nothing; leave the option out for real ones.</p>"
    )


def _footer(report: Mapping[str, Any]) -> str:
    machine = report["machine"]
    steps = table(
        ["step", "time", "peak memory"],
        [
            [
                escape(name) + (" (reused)" if step["reused"] else ""),
                f"{step['duration_s']:.0f} s",
                f"{step['peak_memory_gib']:.2f} GiB",
            ]
            for name, step in report["steps"].items()
        ],
        numbers=(1, 2),
    )
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items() if version)
    return (
        f"Made {escape(machine['time'])} by <code>genie-robot demo</code> from commit {escape(machine['commit'])}, "
        f"model {escape(report['model']['hash'])}. {escape(machine['processor'])}, {machine['cores']} cores, "
        f"{machine['memory_gib']:.0f} GiB, {escape(machine['system'])}, Python {escape(machine['python'])}; {escape(versions)}. "
        f"Time: {escape(report['duration_note'])}. Memory: {escape(report['memory_note'])}. "
        f"All numbers of this page stand in <code>report.json</code> beside it.{steps}"
    )
