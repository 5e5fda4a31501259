"""Licence and version are stated in several files: they agree."""

from __future__ import annotations

import ast
import hashlib
import re
import shlex
from pathlib import Path
from xml.etree import ElementTree

import pytest

from edge_mtl import __version__
from edge_mtl.bundle import BUNDLED, DEMO_BUNDLE, Bundle, bundled

ROOT = Path(__file__).parents[3]
MOST_BYTES = 20e6
ROS = ROOT / "ros2_ws" / "src" / "edge_mtl"
SHIPPED = {
    **{name: bundled(name) for name in BUNDLED},
    **{path.parent.name: path.parent for path in ROOT.glob("zoo/*/manifest.json")},
}
"""Every bundle of the repository: those that are installed, and those of the zoo."""
APACHE_2 = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"


def setup_arguments(path: Path) -> dict[str, object]:
    """The literal keyword arguments of the call of `setup` in a setup.py."""
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    (call,) = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "setup"]
    found = {}
    for keyword in call.keywords:
        try:
            found[str(keyword.arg)] = ast.literal_eval(keyword.value)
        except ValueError:
            continue
    return found


def package_xml(tag: str) -> str:
    return str(ElementTree.parse(ROS / "package.xml").getroot().findtext(tag))


def test_the_licence_is_the_text_of_apache_2_to_the_byte() -> None:
    assert hashlib.sha256((ROOT / "LICENSE").read_bytes()).hexdigest() == APACHE_2


def test_every_file_that_states_a_licence_states_the_same() -> None:
    package = setup_arguments(ROOT / "setup.py")
    assert package["license_expression"] == "Apache-2.0"
    assert setup_arguments(ROS / "setup.py")["license"] == "Apache-2.0"
    assert package_xml("license") == "Apache-2.0"
    assert "Apache License 2.0" in (ROOT / "README.md").read_text()
    assert "Apache License 2.0" in (ROOT / "WEIGHTS.md").read_text()


def test_the_wheel_carries_the_licence_and_the_notice_on_weights() -> None:
    files = setup_arguments(ROOT / "setup.py")["license_files"]
    assert files == ["LICENSE", "WEIGHTS.md"]
    assert all((ROOT / name).is_file() for name in files)
    (floor,) = re.findall(r'"setuptools>=(\d+)"', (ROOT / "pyproject.toml").read_text())
    assert int(floor) >= 77, "older ones do not know license_expression"


def test_the_ros_package_has_the_version_of_the_sdk_in_the_form_that_ros_takes() -> None:
    release = re.match(r"\d+\.\d+\.\d+", __version__)
    assert release is not None
    assert package_xml("version") == release[0]
    assert setup_arguments(ROS / "setup.py")["version"] == release[0]


def test_the_changelog_begins_with_this_version() -> None:
    (first,) = re.findall(r"\A# Changelog\n\n## (\S+) \((\S+)\)\n", (ROOT / "CHANGELOG.md").read_text())
    release, _, development = __version__.partition(".dev")
    assert first[0] == release
    assert (first[1] == "unreleased") == bool(development)


def test_the_notice_on_weights_says_what_the_manifest_records() -> None:
    notice = (ROOT / "WEIGHTS.md").read_text()
    for path in SHIPPED.values():
        assert f"`{path.relative_to(ROOT)}`" in notice
        provenance = Bundle.open(path).manifest.provenance
        assert f"{provenance['run']}.toml" in notice
        for teacher in provenance.get("teachers", ()):
            known = teacher["file"] if isinstance(teacher, dict) else teacher.split(", ")[0].split()[-1]
            assert known in notice, teacher


def test_rooms_b0_is_free_of_others_data_and_no_bundle_holds_images_that_may_not_travel() -> None:
    told = {name: Bundle.open(path).manifest.provenance for name, path in SHIPPED.items()}
    assert told["rooms-b0"]["dataset_licence"] == "rendered by this package from seeds; no third-party data"
    for name, provenance in told.items():
        withheld = [one["title"] for one in provenance.get("data_sets", ()) if not one["redistributable"]]
        assert not withheld or provenance["images"]["embedded"] is False, f"{name} has images of {withheld}"


@pytest.mark.parametrize("name", SHIPPED)
def test_commands_in_a_manifest_can_be_repeated_elsewhere(name: str) -> None:
    manifest = Bundle.open(SHIPPED[name]).manifest
    told = [manifest.provenance[key] for key in ("command", "training_command")]
    for command in (*told, *(record["command"] for record in manifest.measurements.values())):
        assert not [word for word in shlex.split(command) if word.startswith(("/", "~"))], command


def test_bundles_of_the_zoo_are_whole_and_not_large_and_the_list_has_them() -> None:
    listed = (ROOT / "zoo" / "README.md").read_text()
    zoo = [name for name in SHIPPED if name not in BUNDLED]
    assert zoo
    for name in zoo:
        bundle = Bundle.open(SHIPPED[name])
        bundle.verify()
        assert sum(path.stat().st_size for path in bundle.path.rglob("*") if "engines" not in path.parts) < MOST_BYTES
        assert f"`{name}`" in listed
        assert bundle.manifest.measurements, "figures of real rooms are in it"


def test_figures_of_the_demo_bundle_are_of_real_rooms_and_say_how_to_repeat_them() -> None:
    (record,) = (
        record for name, record in Bundle.open(DEMO_BUNDLE).manifest.measurements.items() if name.startswith("NYU Depth v2")
    )
    assert record["frames"] == 654
    assert record["truths"]["normals"]["pseudo"]
    assert "normal_mean_deg" in record["pseudo"]
    assert {"fp32 onnxruntime", "int8 onnxruntime"} <= set(record["graphs"])
    assert [name for name in record["graphs"] if name.startswith("int8") and name.endswith("openvino")]
    for figures in record["graphs"].values():
        assert {"miou", "pixel_accuracy", "depth_rel", "depth_rmse_m", "normal_mean_deg", "class_iou"} <= set(figures)
    assert record["command"].startswith("python train/evaluate.py edge_mtl/bundles/indoor-lite0 --engines --root data/nyuv2")
