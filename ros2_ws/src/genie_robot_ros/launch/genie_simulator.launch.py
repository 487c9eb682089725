"""The simulator, and RViz with the imagined image and the latent actions.

$ ros2 launch genie_robot_ros genie_simulator.launch.py model_path:=/path/to/weights/tabletop-tiny
"""

from __future__ import annotations

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import LifecycleNode, Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

PACKAGE = "genie_robot_ros"


def generate_launch_description() -> LaunchDescription:
    """Arguments, the lifecycle node (it configures and activates itself), RViz, and a root for its frames."""
    share = FindPackageShare(PACKAGE)
    use_sim_time = ParameterValue(LaunchConfiguration("use_sim_time"), value_type=bool)
    arguments = [
        DeclareLaunchArgument("model_path", description="model folder, absolute"),
        DeclareLaunchArgument("device", default_value="cpu", description="torch device of the model"),
        DeclareLaunchArgument(
            "image_topic", default_value="image_raw", description="camera topic to prompt from"
        ),
        DeclareLaunchArgument(
            "params_file",
            default_value=PathJoinSubstitution([share, "config", "genie_simulator.yaml"]),
            description="further parameters of the simulator",
        ),
        DeclareLaunchArgument("use_sim_time", default_value="false", description="take the time from /clock"),
        DeclareLaunchArgument("rviz", default_value="true", description="open RViz"),
        DeclareLaunchArgument(
            "standalone",
            default_value="true",
            description="publish a transform to base_link; false on a robot, which publishes its own",
        ),
    ]
    simulator = LifecycleNode(
        package=PACKAGE,
        executable="genie_simulator",
        name="genie_simulator",
        namespace="",
        output="screen",
        parameters=[
            LaunchConfiguration("params_file"),
            {
                "model_path": ParameterValue(LaunchConfiguration("model_path"), value_type=str),
                "device": ParameterValue(LaunchConfiguration("device"), value_type=str),
                "use_sim_time": use_sim_time,
            },
        ],
        remappings=[("image_raw", LaunchConfiguration("image_topic"))],
    )
    rviz = Node(
        package="rviz2",
        executable="rviz2",
        name="rviz2",
        arguments=["-d", PathJoinSubstitution([share, "rviz", "latent_actions.rviz"])],
        parameters=[{"use_sim_time": use_sim_time}],
        condition=IfCondition(LaunchConfiguration("rviz")),
    )
    root = Node(
        package="tf2_ros",
        executable="static_transform_publisher",
        name="base_link_root",
        arguments=["--frame-id", "world", "--child-frame-id", "base_link"],
        condition=IfCondition(LaunchConfiguration("standalone")),
    )
    return LaunchDescription([*arguments, simulator, rviz, root])
