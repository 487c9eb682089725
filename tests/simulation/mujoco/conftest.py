from __future__ import annotations

import importlib.util

HAVE_SIM = all(importlib.util.find_spec(name) for name in ("mujoco", "gymnasium"))
# Without the `sim` extra only the tests of the pure rules can run.
collect_ignore_glob = (
    []
    if HAVE_SIM
    else [f"test_tabletop_{n}*.py" for n in ("scene", "render", "env", "behav", "gen", "build")]
)
