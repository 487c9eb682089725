from __future__ import annotations

import importlib.util

HAVE_SIM = all(importlib.util.find_spec(name) for name in ("mujoco", "gymnasium"))
# Without the `sim` extra only the tests of the pure rules can run.
_NEED_SIM = ("scene", "render", "env", "behav", "gen", "build", "robots")
collect_ignore_glob = (
    [] if HAVE_SIM else [f"test_{suite}_{n}*.py" for suite in ("tabletop", "manipulation") for n in _NEED_SIM]
)
