"""The ROS 2 benchmark at toy size: it runs, finds nothing lost, and compares what it says it compares."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from conftest import PATIENCE_S, ROOT


def test_the_benchmark_runs_and_loses_nothing(tmp_path: Path) -> None:
    out = tmp_path / "ros.md"
    command = [sys.executable, "benchmarks/ros.py", "--toy", "--parts", "latency", "soak", "--out", str(out)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=2 * PATIENCE_S, check=False
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(out.with_suffix(".json").read_text())
    assert result["commit"] and result["cpu"] and "benchmarks/ros.py --toy" in result["command"]
    for what in ("camera", "reset", "command"):
        row = result["latency"]["64x64"][what]
        assert all(0 < times["p50_ms"] <= times["p99_ms"] for times in row.values())
        # the echo that computes for 20 ms has that time taken out: it would be far slower otherwise
        assert row["working_echo"]["p50_ms"] < row["echo"]["p50_ms"] + 15
    soak = result["soak"]
    assert soak["commands"] == soak["frames"] == soak["images_of_frames"] == 30
    assert soak["unanswered"] == soak["rejected"] == soak["dropped"] == 0
    assert soak["images"] == 90 and soak["memory_last_mb"] > 50
    text = out.read_text()
    assert (
        "| 64x64: command to imagined frame |" in text
        and "| commands sent, frames, unanswered | 30, 30, 0 |" in text
    )
