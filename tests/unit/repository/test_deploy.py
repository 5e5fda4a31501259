"""Files under deploy/: the first-boot script's decisions, and that everything they name exists. No container is built here."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
import typer

from edge_mtl.cli import app

ROOT = Path(__file__).parents[3]
COMMANDS = typer.main.get_group(app).commands
DEPLOY = ROOT / "deploy"
DOCKERFILES = sorted(DEPLOY.glob("Dockerfile.*"))
OF_A_GPU = [path for path in DOCKERFILES if path.suffix != ".ros"]
UNITS = sorted(DEPLOY.glob("*.service"))
FAKE = """#!/usr/bin/env bash
echo "$*" >> "$CALLS"
case "$1" in
  engines) echo "$ENGINES" ;;
  build-engine) case "$*" in *--int8*) exit "$INT8" ;; *--fp16*) exit "$FP16" ;; *) exit "$FP32" ;; esac ;;
esac
"""


def first_boot(folder: Path, *, engines: list[dict[str, object]], codes: tuple[int, int, int]) -> tuple[int, list[str]]:
    """Exit code and calls of the script where `edge-mtl` is a fake with these engines and exit codes of INT8, FP16 and FP32."""
    fake = folder / "bin" / "edge-mtl"
    fake.parent.mkdir(exist_ok=True)
    fake.write_text(FAKE)
    fake.chmod(0o755)
    calls = folder / "calls"
    environment = {
        **os.environ,
        "PATH": f"{fake.parent}{os.pathsep}{os.environ['PATH']}",
        "CALLS": str(calls),
        "ENGINES": json.dumps({"engines": engines}),
        **dict(zip(("INT8", "FP16", "FP32"), map(str, codes), strict=True)),
    }
    done = subprocess.run([DEPLOY / "first-boot.sh", "a bundle"], env=environment, capture_output=True, text=True, timeout=60)
    return done.returncode, calls.read_text().splitlines()


FITS, STALE = {"problem": None}, {"problem": "it was built with tensorrt 10.3.0; this device has 10.13.3"}


def test_nothing_is_built_where_an_engine_fits(tmp_path: Path) -> None:
    code, calls = first_boot(tmp_path, engines=[FITS, FITS], codes=(1, 1, 1))
    assert code == 0
    assert calls == ["engines a bundle --json"]


@pytest.mark.parametrize("engines", [[], [STALE], [FITS, STALE]])
def test_int8_is_built_where_none_fits_or_one_is_stale(tmp_path: Path, engines: list[dict[str, object]]) -> None:
    code, calls = first_boot(tmp_path, engines=engines, codes=(0, 1, 1))
    assert code == 0
    assert calls[1:] == ["engines a bundle --remove-stale", "build-engine a bundle --int8"]


def test_what_loses_its_accuracy_or_cannot_be_built_gives_way_to_more_precision(tmp_path: Path) -> None:
    code, calls = first_boot(tmp_path, engines=[], codes=(8, 9, 0))
    assert code == 0
    assert [call.rpartition(" ")[2] for call in calls[2:]] == ["--int8", "--fp16", "--fp32"]


def test_other_failures_are_passed_on_at_once(tmp_path: Path) -> None:
    code, calls = first_boot(tmp_path, engines=[], codes=(3, 0, 0))
    assert code == 3
    assert calls[-1] == "build-engine a bundle --int8"
    assert first_boot(tmp_path, engines=[], codes=(9, 9, 9))[0] == 9


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_a_dockerfile_copies_what_exists_and_installs_extras_that_exist(path: Path) -> None:
    text = path.read_text()
    for line in re.findall(r"^COPY (.+)$", text, re.MULTILINE):
        *sources, _ = line.split()
        for source in sources:
            assert (ROOT / source).exists(), source
    extras = set(re.findall(r'^    "([a-z-]+)": ', (ROOT / "setup.py").read_text(), re.MULTILINE))
    named = re.findall(r"\[([a-z,-]+)\]\"", text) + re.findall(r"EXTRAS=([a-z,]+)", text)
    assert named
    for name in ",".join(named).split(","):
        assert name in extras, name
    assert re.search(r"^USER edge-mtl$", text, re.MULTILINE), "nothing runs as root"


@pytest.mark.parametrize("path", OF_A_GPU, ids=lambda path: path.name)
def test_an_image_is_made_without_a_driver_and_with_what_compiles_pycuda(path: Path) -> None:
    """The libraries of TensorRT on a Jetson need files of the host, which a container has at run time only."""
    text = path.read_text()
    assert not re.search(r"^RUN .*(?:\\\n.*)*(import tensorrt|&& edge-mtl )", text, re.MULTILINE)
    for needed in ("python3-dev", "build-essential", "/usr/local/cuda/bin:"):
        assert needed in text, needed
    (base,) = re.findall(r"^ARG BASE=(\S+)$", text, re.MULTILINE)
    assert base in (
        "nvidia/cuda:12.6.3-devel-ubuntu24.04",
        "nvcr.io/nvidia/l4t-jetpack:r36.4.0",
        "nvcr.io/nvidia/tensorrt:25.09-py3",
    )


@pytest.mark.parametrize("path", sorted(DEPLOY.iterdir()), ids=lambda path: path.name)
def test_commands_and_options_that_are_called_exist(path: Path) -> None:
    calls = re.findall(r"edge-mtl (build-engine|engines|doctor|[a-z][a-z-]*)((?:[^\n]*?--[a-z][a-z0-9-]*)*)", path.read_text())
    for command, rest in calls:
        if command not in {*COMMANDS, *("is",)} and not rest:
            continue  # words about it
        assert command in COMMANDS, command
        known = {option for parameter in COMMANDS[command].params for option in parameter.opts}
        assert set(re.findall(r"--[a-z][a-z0-9-]*", rest)) <= known, rest


def test_scripts_are_valid_bash() -> None:
    for path in DEPLOY.glob("*.sh"):
        done = subprocess.run(["bash", "-n", path], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        assert path.read_text().splitlines()[0] == "#!/usr/bin/env bash"


def test_there_is_one_for_each_platform() -> None:
    assert [path.suffix for path in DOCKERFILES] == [".cuda", ".jetpack6", ".jetpack7", ".ros"]


def test_the_containers_of_camera_and_node_share_what_images_need() -> None:
    yaml = pytest.importorskip("yaml")
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    assert set(services) == {"camera", "node"}
    dockerfile = (DEPLOY / "Dockerfile.ros").read_text()
    stages = re.findall(r"^FROM (\S+) AS (\S+)$", dockerfile, re.MULTILINE)
    assert len(re.findall(r"useradd .*--uid \d+", dockerfile)) == 1, "one user: shared memory belongs to whoever made it"
    for name, service in services.items():
        assert (service["network_mode"], service["ipc"]) == ("host", "host"), "else the two see different shared memories"
        assert service["environment"]["ROS_DOMAIN_ID"] == "${ROS_DOMAIN_ID:-0}"
        assert service["environment"]["ROS_AUTOMATIC_DISCOVERY_RANGE"].startswith("${ROS_AUTOMATIC_DISCOVERY_RANGE:-")
        assert service["restart"] == "on-failure:10"
        assert (DEPLOY / service["build"]["context"]).resolve() == ROOT
        assert (ROOT / service["build"]["dockerfile"]).is_file()
        assert ("base", service["build"]["target"]) in stages, name
    (namespace,) = re.findall(r"__ns:=(\S+)", services["camera"]["command"])
    assert services["node"]["environment"]["EDGE_MTL_IMAGE"] == f"{namespace}/image_raw"
    assert services["node"]["environment"]["EDGE_MTL_CAMERA_INFO"] == f"{namespace}/camera_info"
    read = set(re.findall(r"\$\{(EDGE_MTL_\w+):", (DEPLOY / "node.sh").read_text()))
    assert {name for name in services["node"]["environment"] if name.startswith("EDGE_MTL_")} <= read
    (device,) = services["camera"]["devices"]
    assert device.endswith(":/dev/video0")
    assert "video_device:=/dev/video0" in services["camera"]["command"]


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_unit_is_one_that_systemd_understands(path: Path, tmp_path: Path) -> None:
    text = path.read_text()
    assert "NoNewPrivileges=yes" in text
    assert "User=edge-mtl" in text
    (script,) = re.findall(r"^ExecStart=/opt/edge-mtl/(\S+)$", text, re.MULTILINE)
    assert (DEPLOY / script).stat().st_mode & stat.S_IXUSR
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not here")
    for unit in UNITS:  # with a program that exists on this machine: only the rest is looked at
        (tmp_path / unit.name).write_text(re.sub(r"(?m)^ExecStart=.*$", "ExecStart=/bin/true", unit.read_text()))
    done = subprocess.run(["systemd-analyze", "verify", tmp_path / path.name], capture_output=True, text=True, timeout=60)
    mine = [line for line in done.stderr.splitlines() if str(tmp_path) in line]
    assert mine == []


def test_the_guide_names_every_file() -> None:
    guides = "".join((ROOT / "docs" / "guides" / f"{name}.md").read_text() for name in ("jetson", "ros2"))
    for path in DEPLOY.iterdir():
        assert path.name in guides, path.name


def test_what_the_guide_quotes_is_said_somewhere() -> None:
    """The table at its end: `words ... words` of messages, what varies left out."""
    guide = (ROOT / "docs" / "guides" / "jetson.md").read_text()
    table = guide.partition("| what is said | do |")[2].partition("\n\n")[0]
    quoted = [line.split("|")[1].strip(" `") for line in table.splitlines()[2:] if line]
    assert len(quoted) > 5
    code = " ".join(path.read_text() for path in sorted((ROOT / "edge_mtl").rglob("*.py")))
    for line in quoted:
        for words in re.split(r"\s*\.\.\.\s*|\(lib[^)]*\)|cuda:1|tensorrt|(?<=but )", line):
            assert words.strip(" ;") in code, line
