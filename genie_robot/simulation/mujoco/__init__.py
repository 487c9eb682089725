"""MuJoCo table-top world: tasks, scripted behaviours, simulator, renderer and data generator.

`tasks` and `behaviours` need numpy only; everything else needs the `sim` extra.
"""

from __future__ import annotations


def register_envs() -> None:
    """Register `genie_robot/Tabletop-v0` with Gymnasium (safe to call more than once)."""
    import gymnasium

    from genie_robot.simulation.mujoco.tasks import MAX_STEPS

    if "genie_robot/Tabletop-v0" not in gymnasium.registry:
        gymnasium.register(
            id="genie_robot/Tabletop-v0",
            entry_point="genie_robot.simulation.mujoco.env:TabletopEnv",
            max_episode_steps=MAX_STEPS,
        )
