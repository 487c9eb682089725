"""report.html and report.json: whole, honest, one file, nothing loaded, nothing run."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genie_robot.errors import ConfigError
from genie_robot.evaluation.films import save_episode
from genie_robot.evaluation.policy_report import films as report_films
from genie_robot.evaluation.policy_report import write_report
from genie_robot.evaluation.policy_report.films import _both, _outcome, _sheet, films_section
from genie_robot.evaluation.summary.summarise import summarise
from genie_robot.report.charts import ScatterPoint, scatter_chart
from genie_robot.report.labels import place_labels
from tests.evaluation.synthetic import facts, rows_of

VOID = {"meta", "br", "img", "line", "circle", "polyline", "polygon"}


class Balanced(HTMLParser):
    """Fails on a tag that is not closed, or closed by another."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open and self.open.pop() == tag, f"</{tag}> at {self.getpos()}"


def frames(colour: tuple[int, int, int], count: int = 9) -> np.ndarray:
    film = np.full((count, 16, 16, 3), colour, np.uint8)
    film[:, :, :8] //= 2
    return film


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, Path]:
    out = tmp_path_factory.mktemp("report")
    plan = replace(
        facts(seeds=10), hashes={"model": "c0ffee" * 10}, settings={"model": "<the & model>", "seeds": 10}
    )
    rows = [
        replace(each, status="raised", reason="KeyError: <script>", success=False)
        if each.policy == "random" and each.seed == 1_000_003 and each.world == "imagined"
        else each
        for each in rows_of(plan, false_success=0.2, false_failure=0.1, judge_error=0.05, invalid=0.05)
    ]
    floors = {"first frame only": {policy: 0.5 + 0.01 * k for k, policy in enumerate(plan.policies)}}
    summary = summarise(rows, plan, floors=floors, draws=20)
    for film in summary["films"][:-1]:
        place = film["task"], film["policy"], film["seed"]
        for world, colour in (("mujoco", (200, 40, 40)), ("imagined", (40, 40, 200))):
            save_episode(out, (world, *place), frames(colour), np.zeros((8, 7)), np.zeros((9, 14)), 0.2)
    write_report(summary, out)
    return summary, out


def test_the_page_is_one_balanced_file_without_script(written: tuple[dict, Path]) -> None:
    text = (written[1] / "report.html").read_text()
    parser = Balanced()
    parser.feed(text)
    assert parser.open == []
    assert "<script" not in text and "<link" not in text
    assert re.findall(r'(?:src|href)="(?!data:|#)', text) == []
    assert re.findall(r"url\((?!data:)", text) == []
    assert "nan" not in re.sub(r"base64,[^)\"]*", "", text).lower().replace("domina", "")


def test_the_page_says_what_the_json_says(written: tuple[dict, Path]) -> None:
    summary, out = written
    text = (out / "report.html").read_text()
    assert json.loads((out / "report.json").read_text()) == summary
    assert summary["report_line"].replace("|err|", "|err|") in text
    for said in (
        f"r = {summary['pearson_r']:.3f}",
        f"MMRV {summary['mmrv']:.3f}",
        "agrees with MuJoCo",
        "nothing about",
        "c0ffee" * 10,
        "&lt;the &amp; model&gt;",
        "1000000 to 1000009",
        "KeyError: &lt;script&gt;",
        "blind: first frame only",
        "tokenizer alone",
        "actions, open loop",
        *summary["policies"],
        *summary["tasks"],
    ):
        assert said in text, said


def test_films_of_both_worlds_are_inside_and_missing_ones_are_told(written: tuple[dict, Path]) -> None:
    summary, out = written
    text = (out / "report.html").read_text()
    assert text.count("data:image/webp") == len(summary["films"]) - 1
    assert text.count("film not stored") == 1
    both_WTYXC, every = _both(summary["films"][0], out)
    assert every == 1 and "animation-duration:2.40s" in text  # 8 steps and 4 of rest, of 0.2 s
    assert both_WTYXC.shape == (2, 9, 16, 16, 3)
    truth, dream = (film[:, :, 12:].mean(axis=(0, 1, 2)) for film in both_WTYXC)
    assert truth[0] > 150 > truth[2] and dream[2] > 150 > dream[0], "MuJoCo is the red one"


FILM = {
    "policy": "p", "task": "push", "seed": 1, "kind": "both succeed", "second_judge": None, "invalid": False,
    "mujoco_success": True, "mujoco_step": 1, "mujoco_distance_m": 0.0, "judge_on_true_pictures": True,
    "imagined_success": True, "imagined_step": 1, "imagined_distance_m": 0.0,
}  # fmt: skip


def store(out: Path, films: dict[str, np.ndarray]) -> None:
    for world, film in films.items():
        steps = len(film) - 1
        save_episode(out, (world, "push", "p", 1), film, np.zeros((steps, 7)), np.zeros((steps + 1, 14)), 0.2)


def test_films_of_different_size_are_left_out_and_told(tmp_path: Path) -> None:
    film = frames((200, 40, 40))
    store(tmp_path, {"mujoco": film, "imagined": film.repeat(2, axis=1).repeat(2, axis=2)})
    html = films_section({"films": [FILM], "dt_s": 0.2}, tmp_path)
    assert "the two films differ in size" in html and "data:image" not in html


def test_thinned_films_play_at_the_speed_of_whole_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(tmp_path, {world: frames((200, 40, 40)) for world in ("mujoco", "imagined")})
    monkeypatch.setattr(report_films, "WIDEST", 5 * 16)  # of 9 frames each second one: 5
    html = films_section({"films": [FILM], "dt_s": 0.2}, tmp_path)
    assert "steps(4,end)" in html
    assert "animation-duration:3.20s" in html  # 4 shown steps and 4 of rest, of 0.4 s


def test_the_sheet_holds_each_frame_at_its_place() -> None:
    films = np.stack([frames((200, 40, 40), 5), frames((40, 40, 200), 5)])
    films[0, 3] = 255
    data = _sheet(films)
    import base64

    picture = cv2.imdecode(np.frombuffer(base64.b64decode(data.split(",")[1]), np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None and picture.shape == (32, 80, 3)
    assert picture[:16, 48:64].mean() > 245 > 150 > picture[:16, 64:].mean()


def test_without_imagination_there_is_no_report(tmp_path: Path) -> None:
    plan = facts(worlds=("mujoco", "interface"), seeds=2)
    with pytest.raises(ConfigError, match="no imagined episodes"):
        write_report(summarise(rows_of(plan), plan, draws=0), tmp_path)


@pytest.mark.parametrize("worlds", [("mujoco", "imagined")])
def test_a_small_evaluation_has_a_report_too(tmp_path: Path, worlds: tuple[str, ...]) -> None:
    """Two policies, one task, one seed, all failing: nothing is defined, and the page says so."""
    plan = facts(("a", "b"), ("push",), seeds=1, horizons=(32,), worlds=worlds)
    rows = [replace(each, success=False, judge_success=False) for each in rows_of(plan)]
    text = write_report(summarise(rows, plan, draws=5), tmp_path).read_text()
    assert "r = undefined" in text and "not measured" in text


@given(st.lists(st.tuples(st.floats(70, 400), st.floats(10, 380)), min_size=1, max_size=14, unique=True))
@settings(max_examples=40, deadline=None)
def test_labels_stay_inside_the_chart(points: list[tuple[float, float]]) -> None:
    names = ["scripted-1.0"] * len(points)
    places = place_labels(points, names, (62.0, 0.0, 430.0, 360.0))
    for left, base in places:
        assert left >= 62 - 1 and left + 10 * 0.56 * 12 <= 430 + 1
        assert 10 - 1 <= base <= 360 + 1


def test_labels_of_points_on_one_spot_do_not_cover_each_other() -> None:
    places = place_labels([(200.0, 200.0)] * 5, ["policy"] * 5, (62.0, 0.0, 430.0, 360.0))
    for index, (left, base) in enumerate(places):
        for other_left, other_base in places[index + 1 :]:
            assert abs(left - other_left) > 30 or abs(base - other_base) >= 9.9


def test_the_band_is_drawn_behind_the_points() -> None:
    point = ScatterPoint(0.5, 0.6, (0.4, 0.6), (0.5, 0.7), "a<b", "g")
    chart = scatter_chart([point], "x", "y", band=[(0.0, 0.0, 0.1), (1.0, 0.9, 1.0)])
    assert chart.index("<polygon") < chart.index("<circle") and "a&lt;b" in chart
    assert "<polygon" not in scatter_chart([point], "x", "y")
    assert (
        chart.count(">a&lt;b<") == 2 and scatter_chart([point], "x", "y", named=False).count(">a&lt;b<") == 1
    )


def test_a_thing_that_fell_off_the_table_is_no_matter_of_centimetres() -> None:
    assert _outcome(False, 0, 25.19) == "failure, over a metre from the goal at the end"
    assert _outcome(True, 7, 0.031) == "success at step 7, 3.1 cm from the goal at the end"
    assert _outcome(False, 0, None) == "failure"
