from setuptools import find_packages, setup

PACKAGE = "genie_policy_client"

setup(
    name=PACKAGE,
    version="0.1.0",
    packages=find_packages(exclude=["test"]),
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
    ],
    install_requires=["setuptools"],
    zip_safe=True,
    maintainer="genie_robot contributors",
    maintainer_email="genie-robot@users.noreply.github.com",
    description="Any Python policy as a ROS 2 node, and any policy node in the evaluation of genie_robot",
    license="Apache-2.0",
    # colcon runs pytest only if it finds it here (setuptools >= 72 ignores tests_require)
    extras_require={"test": ["pytest"]},
    entry_points={"console_scripts": ["example_policy = genie_policy_client.example_policy:main"]},
)
