"""The ROS package `edge_mtl`: its Python distribution is `edge_mtl_ros`, so that it does not shadow the SDK's metadata."""

from glob import glob

from setuptools import setup

SHARE = "share/edge_mtl"

setup(
    name="edge_mtl_ros",
    version="0.2.0",
    packages=["edge_mtl_ros"],
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/edge_mtl"]),
        (SHARE, ["package.xml", "CHANGELOG.rst"]),
        (f"{SHARE}/launch", sorted(glob("launch/*.launch.*"))),
        (f"{SHARE}/config", sorted(glob("config/*"))),
        (f"{SHARE}/sros2", glob("sros2/*.xml")),
    ],
    install_requires=["setuptools"],
    extras_require={"test": ["pytest"]},  # what `colcon test` runs
    zip_safe=True,
    description="The tasks of a bundle on one RGB camera or several, as a ROS 2 lifecycle node",
    maintainer="edge_mtl maintainers",
    maintainer_email="edge-mtl@example.invalid",
    license="Apache-2.0",
    entry_points={"console_scripts": ["perception_node = edge_mtl_ros.main:main"]},
)
