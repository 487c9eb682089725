"""Simulators: the imagined world (`world_session`, `imagined_env`) and the MuJoCo table top (`mujoco`)."""
