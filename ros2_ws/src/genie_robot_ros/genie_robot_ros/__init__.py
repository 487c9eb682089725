"""ROS 2 face of genie_robot: a lifecycle node that imagines camera frames from latent actions."""
