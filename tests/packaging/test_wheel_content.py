"""What is in the sdist and in the wheel, and what pip reads of it. Nothing is downloaded."""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
from email.message import Message
from email.parser import BytesParser
from pathlib import Path, PurePosixPath
from zipfile import ZipFile

import pytest

from edge_mtl import __version__, opencv
from edge_mtl.bundle import BUNDLED, DEMO_BUNDLE, bundled
from tests.packaging.distributions import BUNDLES, ROOT, SCATTERED, build, copy_of_checkout, scatter

pytest.importorskip("build", reason="needs the package build: pip install -e '.[dev]'")

MOST_BYTES = 48_000_000
"""Three bundles of 15 MB each; package indexes take 100 MB."""
JOBS = ("demo", "dev", "train", "ros-test", "gpu-test")
"""Extras that are enough for a whole job."""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with engines, caches and other things in it."""
    folder = copy_of_checkout(tmp_path_factory.mktemp("dirty") / "checkout")
    scatter(folder)
    return folder


@pytest.fixture(scope="module")
def distributions(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return build(checkout, tmp_path_factory.mktemp("distributions"))


@pytest.fixture(scope="module")
def wheel(distributions: dict[str, Path]) -> ZipFile:
    return ZipFile(distributions["whl"])


@pytest.fixture(scope="module")
def metadata(wheel: ZipFile) -> Message:
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return BytesParser().parsebytes(wheel.read(name))


@pytest.fixture(scope="module")
def in_sdist(distributions: dict[str, Path]) -> set[str]:
    """Names of the files in the sdist, without its folder."""
    with tarfile.open(distributions["gz"]) as archive:
        return {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}


def requirements(metadata: Message, extra: str | None) -> set[str]:
    """Names of the packages that an extra asks for; None: those that are always needed."""
    found = set()
    for line in metadata.get_all("Requires-Dist", []):
        of = re.search(r"""extra == ["']([^"']+)["']""", line)
        if (of.group(1) if of else None) == extra:
            found.add(re.match(r"[\w.-]+", line).group())
    return found


def test_both_are_small_enough(distributions: dict[str, Path]) -> None:
    assert {path.name.split("-")[1].removesuffix(".tar.gz") for path in distributions.values()} == {__version__}
    assert all(path.stat().st_size < MOST_BYTES for path in distributions.values())


def test_the_wheel_has_every_module_and_nothing_beside_the_package(wheel: ZipFile) -> None:
    sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / "edge_mtl").rglob("*.py")}
    assert {name for name in wheel.namelist() if name.endswith(".py")} == sources
    assert {PurePosixPath(name).parts[0] for name in wheel.namelist()} == {"edge_mtl", f"edge_mtl-{__version__}.dist-info"}


def test_the_wheel_has_the_data_that_modules_read(wheel: ZipFile) -> None:
    data = {
        name
        for name in wheel.namelist()
        if name.startswith("edge_mtl/") and not name.endswith(".py") and not name.startswith("edge_mtl/bundles/")
    }
    kinds = ("py.typed", "quantization/recipes/*.toml", "cuda/*.ptx", "cuda/*.cu")
    wanted = [path for kind in kinds for path in (ROOT / "edge_mtl").glob(kind)]
    assert data == {path.relative_to(ROOT).as_posix() for path in wanted}


def test_the_wheel_has_both_bundles_whole_as_their_manifests_list_them(wheel: ZipFile) -> None:
    assert [bundled(name) for name in BUNDLED] == [ROOT / bundle for bundle in BUNDLES]
    assert ROOT / BUNDLES[0] == DEMO_BUNDLE
    listed: set[str] = set()
    for bundle in BUNDLES:
        files = json.loads(wheel.read(f"{bundle}/manifest.json"))["files"]
        listed |= {f"{bundle}/{name}" for name in ("manifest.json", *files)}
        for name, entry in files.items():
            digest = entry["sha256"] if isinstance(entry, dict) else entry
            assert hashlib.sha256(wheel.read(f"{bundle}/{name}")).hexdigest() == digest, name
    assert {name for name in wheel.namelist() if name.startswith("edge_mtl/bundles/")} == listed


def test_engines_caches_and_what_else_lies_about_stay_behind(checkout: Path, wheel: ZipFile, in_sdist: set[str]) -> None:
    assert all((checkout / name).is_file() for name in SCATTERED)
    assert not {*SCATTERED} & in_sdist
    assert not {*SCATTERED, "edge_mtl/gone.py"} & {*wheel.namelist()}
    assert not {name for name in in_sdist if name.startswith(("tests/", "train/", "benchmarks/"))}


def test_the_sdist_has_what_a_wheel_is_built_from_and_what_its_readme_shows(in_sdist: set[str]) -> None:
    wanted = {"README.md", "CHANGELOG.md", "pyproject.toml", "setup.py", "MANIFEST.in"}
    images = re.findall(r"!\[[^\]]*\]\((?!https?:)([^)]+)\)", (ROOT / "README.md").read_text())
    assert wanted | set(images) <= in_sdist


@pytest.mark.slow
def test_a_clean_clone_makes_the_same_wheel(distributions: dict[str, Path], tmp_path: Path) -> None:
    again = build(copy_of_checkout(tmp_path / "checkout"), tmp_path / "out", "--wheel")["whl"]
    assert again.name == distributions["whl"].name
    assert hashlib.sha256(again.read_bytes()).digest() == hashlib.sha256(distributions["whl"].read_bytes()).digest()


# What pip reads


def test_no_opencv_comes_without_being_asked_for(metadata: Message) -> None:
    assert requirements(metadata, None) >= {"numpy", "typer", "rich"}
    assert not {name for name in requirements(metadata, None) if name.startswith("opencv")}
    asked = {extra: requirements(metadata, extra) & set(opencv.DISTRIBUTIONS) for extra in metadata.get_all("Provides-Extra")}
    assert {extra for extra, names in asked.items() if names} == {"headless", "gui", *JOBS}
    assert {extra: names for extra, names in asked.items() if names == {"opencv-python"}} == {"gui": {"opencv-python"}}
    assert not [extra for extra, names in asked.items() if len(names) > 1]


def test_extras_ask_for_no_older_opencv_than_the_check_lets_pass(metadata: Message) -> None:
    lines = [line for line in metadata.get_all("Requires-Dist") if line.startswith("opencv")]
    assert lines
    for line in lines:
        lowest = re.search(r">=(\d+)\.(\d+)", line)
        assert (int(lowest.group(1)), int(lowest.group(2))) >= opencv.MINIMUM


def test_the_description_shows_and_links_only_what_has_an_address(metadata: Message) -> None:
    text = metadata.get_payload()
    assert "edge_mtl" in text
    assert "pip install" in text
    for link in (
        r"\]\((?!https?://|#)[^)]*\)",
        r"""(?:src|href)=["'](?!https?://|#)""",
        r"(?m)^\[[^\]]+\]:\s*(?!https?://).*$",
    ):
        assert re.findall(link, text) == []
