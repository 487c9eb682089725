"""The simulator, RViz with the imagined images and the latent actions, and a recorder if asked for.

$ ros2 launch genie_robot_ros genie_simulator.launch.py model_path:=/path/to/weights/tabletop-tiny
$ ros2 launch genie_robot_ros genie_simulator.launch.py model_path:=... mode:=shadow image_topic:=/camera/image_raw
$ ros2 launch genie_robot_ros genie_simulator.launch.py model_path:=... namespaces:="robot_1 robot_2" record:=bags/two

Written for ROS 2 Jazzy. An argument left empty leaves the parameter as `params_file` has it.
"""

from __future__ import annotations

from genie_robot_ros.rviz import mode_in, rviz_config, rviz_remaps
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

PACKAGE = "genie_robot_ros"
#: arguments that are parameters of the simulator
PARAMETERS = {
    "model_path": "model folder, absolute",
    "device": "torch device of the model, for example cpu or cuda",
    "mode": "step, realtime or shadow",
}


def generate_launch_description() -> LaunchDescription:
    """Arguments, then the nodes: the simulator configures and activates itself."""
    share = FindPackageShare(PACKAGE)
    arguments = [
        *(
            DeclareLaunchArgument(name, default_value="", description=text)
            for name, text in PARAMETERS.items()
        ),
        DeclareLaunchArgument(
            "image_topic", default_value="image_raw", description="camera topic to prompt from"
        ),
        DeclareLaunchArgument(
            "params_file",
            default_value=PathJoinSubstitution([share, "config", "genie_simulator.yaml"]),
            description="parameters of the simulator",
        ),
        DeclareLaunchArgument(
            "namespaces",
            default_value="",
            description="a session in each of these, between spaces; they share one process and one model",
        ),
        DeclareLaunchArgument("use_sim_time", default_value="false", description="take the time from /clock"),
        DeclareLaunchArgument("rviz", default_value="true", description="open RViz, one for each namespace"),
        DeclareLaunchArgument("record", default_value="", description="record into this new bag folder"),
        DeclareLaunchArgument(
            "large_images",
            default_value="false",
            description="shared memory for images above 0.5 MB; the nodes then keep to this machine",
        ),
        DeclareLaunchArgument(
            "standalone",
            default_value="true",
            description="publish a transform to base_link; false on a robot, which publishes its own",
        ),
    ]
    large_images = SetEnvironmentVariable(
        "FASTRTPS_DEFAULT_PROFILES_FILE",
        PathJoinSubstitution([share, "config", "fastdds_large_images.xml"]),
        condition=IfCondition(LaunchConfiguration("large_images")),
    )
    root = Node(
        package="tf2_ros",
        executable="static_transform_publisher",
        name="base_link_root",
        arguments=["--frame-id", "world", "--child-frame-id", "base_link"],
        condition=IfCondition(LaunchConfiguration("standalone")),
    )
    return LaunchDescription([*arguments, large_images, OpaqueFunction(function=nodes), root])


def nodes(context: LaunchContext) -> list[Node]:
    """The nodes that depend on what the arguments say."""

    def given(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    namespaces = given("namespaces").split()
    use_sim_time = {"use_sim_time": ParameterValue(LaunchConfiguration("use_sim_time"), value_type=bool)}
    simulator = Node(
        package=PACKAGE,
        executable="genie_simulator",
        name="genie_simulator",
        output="screen",
        arguments=["--namespaces", *namespaces] if namespaces else [],
        parameters=[
            given("params_file"),
            {name: ParameterValue(given(name), value_type=str) for name in PARAMETERS if given(name)},
            use_sim_time,
        ],
        remappings=[("image_raw", given("image_topic"))],
    )
    views = [
        Node(
            package="rviz2",
            executable="rviz2",
            name="rviz2",
            namespace=namespace,
            arguments=["-d", rviz_config(mode)],
            parameters=[use_sim_time],
            remappings=rviz_remaps(namespace, given("image_topic"), mode),
            condition=IfCondition(LaunchConfiguration("rviz")),
        )
        for namespace in namespaces or [""]
        for mode in [given("mode") or mode_in(given("params_file"), namespace)]
    ]
    recorder = Node(
        package=PACKAGE,
        executable="record",
        name="genie_recorder",
        output="screen",
        arguments=[given("record")],
    )
    return [simulator, *views, *([recorder] if given("record") else [])]
