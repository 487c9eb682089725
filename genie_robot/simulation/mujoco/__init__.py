"""MuJoCo table-top worlds: tasks, scripted behaviours, simulators, renderer and data generators.

`tasks` and `behaviours` (those of `manipulation` too) need numpy only; everything else needs the `sim` extra.
"""

from __future__ import annotations

TABLETOP_ID = "genie_robot/Tabletop-v0"
MANIPULATION_IDS: dict[str, str] = {
    "reach": "genie_robot/Reach-v0",
    "push": "genie_robot/Push-v0",
    "pick_lift": "genie_robot/PickLift-v0",
    "drawer": "genie_robot/Drawer-v0",
    "pick_place": "genie_robot/PickPlace-v0",
}
"""Gymnasium id of each task of `manipulation`."""


def register_envs() -> None:
    """Register all ids above with Gymnasium (safe to call more than once)."""
    import gymnasium

    from genie_robot.simulation.mujoco import tasks
    from genie_robot.simulation.mujoco.manipulation import tasks as manipulation

    if TABLETOP_ID not in gymnasium.registry:
        gymnasium.register(
            id=TABLETOP_ID,
            entry_point="genie_robot.simulation.mujoco.env:TabletopEnv",
            max_episode_steps=tasks.MAX_STEPS,
        )
    for task, name in MANIPULATION_IDS.items():
        if name not in gymnasium.registry:
            gymnasium.register(
                id=name,
                entry_point="genie_robot.simulation.mujoco.manipulation.env:ManipulationEnv",
                max_episode_steps=manipulation.MAX_STEPS,
                kwargs={"task": task},
            )
