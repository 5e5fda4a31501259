"""The workspace built with colcon, and the node started by the resolution of `ros2 run`."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason='needs the extra ros-test: pip install -e ".[cpu,build,bags,ros-test]"')
pytest.importorskip("colcon_core", reason='needs the extra ros-test: pip install -e ".[cpu,build,bags,ros-test]"')

from edge_mtl.bundle import BUNDLED
from tests.bundles import make_bundle
from tests.ros.conftest import PACKAGE
from tests.ros.harness import Partner, running, wait_until

RESOLVE = (
    "import os, sys; from ament_index_python.packages import get_package_prefix\n"
    "folder = os.path.join(get_package_prefix(sys.argv[1]), 'lib', sys.argv[1])\n"
    "found = [os.path.join(where, sys.argv[2]) for where, _, names in os.walk(folder) if sys.argv[2] in names]\n"
    "assert len(found) == 1 and os.access(found[0], os.X_OK), found\n"
    "print(found[0])\n"
)


ROOT = PACKAGE.parents[2]
IGNORED = shutil.ignore_patterns("__pycache__", "build", "install", "log", "*.egg-info")


def built(folder: Path) -> Path:
    """Where the packages of a workspace are installed."""
    colcon = Path(sys.executable).with_name("colcon")
    done = subprocess.run(
        [sys.executable, str(colcon), "--log-base", "log", "build"], cwd=folder, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "install"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("colcon")
    shutil.copytree(PACKAGE, folder / "src" / "edge_mtl", ignore=IGNORED)
    return built(folder)


@pytest.mark.skipif(
    importlib.util.find_spec("colcon_metadata") is None,
    reason='needs colcon-metadata: pip install -e ".[cpu,build,bags,ros-test]"',
)
def test_a_workspace_around_the_repository_finds_the_package_and_not_the_sdk(tmp_path: Path) -> None:
    clone = tmp_path / "src" / "clone"
    shutil.copytree(PACKAGE, clone / PACKAGE.relative_to(ROOT), ignore=IGNORED)
    manifests = [f"edge_mtl/bundles/{name}/manifest.json" for name in BUNDLED]
    for name in ("colcon.pkg", "setup.py", "pyproject.toml", "README.md", "edge_mtl/__init__.py", *manifests):
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, clone / name)
    installed = [path.name for path in built(tmp_path).iterdir() if path.is_dir()]
    assert installed == ["edge_mtl"]
    assert (tmp_path / "install" / "edge_mtl" / "lib" / "edge_mtl" / "perception_node").is_file()


def test_everything_a_user_needs_is_installed(workspace: Path) -> None:
    prefix = workspace / "edge_mtl"
    assert os.access(prefix / "lib/edge_mtl/perception_node", os.X_OK)
    share = prefix / "share/edge_mtl"
    for name in (
        "package.xml",
        "CHANGELOG.rst",
        "launch/perception.launch.py",
        "launch/perception.launch.xml",
        "launch/perception.launch.yaml",
        "launch/camera.launch.py",
        "config/perception.yaml",
        "config/two_cameras.yaml",
        "config/fastdds_shm.xml",
        "config/fastdds_udp.xml",
        "config/perception.rviz",
        "config/perception_foxglove.json",
        "config/nav2_semantic_costmap.yaml",
        "sros2/policy.xml",
        "sros2/two_cameras.xml",
    ):
        assert (share / name).is_file(), name
    assert (prefix / "share/ament_index/resource_index/packages/edge_mtl").is_file()
    names = [path.name for path in prefix.rglob("*.dist-info")] + [path.name for path in prefix.rglob("*.egg-info")]
    assert names
    assert all(name.startswith("edge_mtl_ros") for name in names), "the SDK's metadata would be shadowed"


def test_ros2_run_finds_one_executable_that_becomes_active(
    workspace: Path, ros_environment: dict[str, str], tmp_path: Path
) -> None:
    prefix = workspace / "edge_mtl"
    library = next(prefix.rglob("site-packages"))
    environment = dict(ros_environment)
    environment["AMENT_PREFIX_PATH"] = os.pathsep.join([str(prefix), environment.get("AMENT_PREFIX_PATH", "")]).rstrip(
        os.pathsep
    )
    environment["PYTHONPATH"] = os.pathsep.join([str(library), str(PACKAGE.parents[2])])
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment["PATH"]])
    resolved = subprocess.run(
        [sys.executable, "-c", RESOLVE, "edge_mtl", "perception_node"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    bundle = make_bundle(tmp_path / "tiny")
    arguments = ("-p", f"bundle:={bundle.path}", "-p", "threads:=1")
    with running(environment, tmp_path / "log", *arguments, command=[resolved]) as node:
        partner = Partner()
        try:
            wait_until(lambda: partner.state() == "active", "active")
        finally:
            partner.close()
        assert node.end() == 0


def test_the_package_files_are_well_formed() -> None:
    for path in (*PACKAGE.glob("*.xml"), *PACKAGE.glob("*/*.xml")):
        ElementTree.parse(path)


def test_the_manifest_says_all_that_an_index_of_packages_asks_for() -> None:
    root = ElementTree.parse(PACKAGE / "package.xml").getroot()
    assert root.attrib == {"format": "3"}
    assert root.findtext("license") == "Apache-2.0"
    assert [url.attrib["type"] for url in root.iter("url")] == ["website", "repository", "bugtracker"]
    assert root.findtext("export/build_type") == "ament_python"
    for tag in ("name", "version", "description", "author", "test_depend"):
        assert root.findtext(tag), tag
    maintainer = root.find("maintainer")
    assert maintainer is not None
    assert "@" in maintainer.attrib["email"]
    assert f'version="{root.findtext("version")}"' in (PACKAGE / "setup.py").read_text()
    declared = {element.text for element in root.iter("exec_depend")}
    imported = {"rclpy", "sensor_msgs", "std_msgs", "std_srvs", "diagnostic_msgs", "rcl_interfaces", "ament_index_python"}
    assert imported | {"launch", "launch_ros", "vision_msgs"} <= declared
    order = ["name", "version", "description", "maintainer", "license", "url", "author", "exec_depend", "test_depend", "export"]
    assert list(dict.fromkeys(element.tag for element in root)) == order, "the schema has an order"
