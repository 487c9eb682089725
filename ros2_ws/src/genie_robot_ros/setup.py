from pathlib import Path

from setuptools import find_packages, setup

PACKAGE = "genie_robot_ros"


def shared(folder: str) -> tuple[str, list[str]]:
    return f"share/{PACKAGE}/{folder}", sorted(str(path) for path in Path(folder).iterdir() if path.is_file())


setup(
    name=PACKAGE,
    version="0.1.0",
    packages=find_packages(exclude=["test"]),
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
        shared("launch"),
        shared("config"),
        shared("rviz"),
    ],
    install_requires=["setuptools"],
    zip_safe=True,
    maintainer="genie_robot contributors",
    maintainer_email="genie-robot@users.noreply.github.com",
    description="ROS 2 face of genie_robot: a learned robot simulator that imagines camera frames",
    license="Apache-2.0",
    # colcon runs pytest only if it finds it here (setuptools >= 72 ignores tests_require)
    extras_require={"test": ["pytest"]},
    entry_points={
        "console_scripts": [
            "genie_simulator = genie_robot_ros.simulator_node:main",
            "round_trip = genie_robot_ros.round_trip:main",
            "record = genie_robot_ros.recorder:main",
            "doctor = genie_robot_ros.doctor:main",
            "demo_round_trip = genie_robot_ros.demo_round_trip:main",
        ]
    },
)
