"""Which transport images get: what /dev/shm has room for, by fakes, and on a small /dev/shm that is really there."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from edge_mtl_ros import profile
from edge_mtl_ros.profile import (
    PARTICIPANT_BYTES,
    PROFILE_VARIABLES,
    SharedMemory,
    Transport,
    choose_transport,
    profile_path,
    shared_memory,
    use_shared_memory,
)

from tests.bundles import make_bundle, make_image
from tests.ros.conftest import PACKAGE

ROOMY = SharedMemory(size=8 << 30, free=8 << 30, private=False)
FULL = SharedMemory(size=64 << 20, free=PARTICIPANT_BYTES - 1, private=False)
HOST = "25 24 0:23 / /dev/shm rw,relatime - tmpfs tmpfs rw,size=24684096k\n"
OWN = "612 608 0:61 / /dev/shm rw,nosuid,nodev,noexec,relatime - tmpfs shm rw,size=65536k\n"


def test_room_for_the_segment_means_shared_memory_and_nothing_to_say() -> None:
    assert choose_transport(ROOMY, {}) == Transport("fastdds_shm.xml")
    assert choose_transport(SharedMemory(64 << 20, PARTICIPANT_BYTES, private=False), {}) == Transport("fastdds_shm.xml")


@pytest.mark.parametrize("memory", [FULL, None])
def test_without_room_images_take_the_network_and_it_is_said_what_to_do(memory: SharedMemory | None) -> None:
    chosen = choose_transport(memory, {})
    assert chosen.profile == "fastdds_udp.xml"
    for said in ("19 MB a process", "UDP", "--ipc=host", "--shm-size"):
        assert said in chosen.remark
    assert ("19 MB free of 67 MB" in chosen.remark) is (memory is not None)
    assert "LOCALHOST" not in chosen.remark
    assert "LOCALHOST adds" in choose_transport(memory, {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}).remark


def test_a_containers_own_memory_is_used_and_named() -> None:
    chosen = choose_transport(SharedMemory(64 << 20, 64 << 20, private=True), {})
    assert chosen.profile == "fastdds_shm.xml"
    assert "container's own" in chosen.remark
    assert "--ipc=host" in chosen.remark


@pytest.mark.parametrize("name", PROFILE_VARIABLES)
def test_a_profile_of_the_users_stays_and_is_told_of_a_full_memory(name: str) -> None:
    theirs = {name: "/mine.xml"}
    assert choose_transport(ROOMY, theirs) == Transport("")
    chosen = choose_transport(FULL, theirs)
    assert chosen.profile == ""
    assert "--shm-size" in chosen.remark


def test_another_middleware_has_its_own_transports() -> None:
    assert choose_transport(FULL, {"RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp"}) == Transport("")
    assert choose_transport(FULL, {"RMW_IMPLEMENTATION": "rmw_fastrtps_dynamic_cpp"}).profile == "fastdds_udp.xml"


@pytest.mark.parametrize(
    ("mounted", "private"), [(HOST, False), (OWN, True), (HOST + OWN, True), (OWN + HOST, False), ("", False)]
)
def test_size_room_and_owner_are_read_from_the_system(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mounted: str, private: bool
) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(HOST.replace("/dev/shm", "/dev/shm/other").replace("tmpfs tmpfs", "tmpfs shm") + mounted)
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_blocks=100, f_bavail=30, f_bfree=40, f_frsize=4096))
    monkeypatch.setattr(os, "access", lambda path, mode: True)
    assert shared_memory(Path("/dev/shm"), mounts) == SharedMemory(409_600, 122_880, private)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert shared_memory(Path("/dev/shm"), mounts) is None


def test_no_shared_memory_at_all_is_none(tmp_path: Path) -> None:
    assert shared_memory(tmp_path / "nowhere", tmp_path / "mountinfo") is None


@pytest.mark.parametrize(("memory", "name"), [(ROOMY, "fastdds_shm.xml"), (FULL, "fastdds_udp.xml")])
def test_both_variables_name_the_profile(monkeypatch: pytest.MonkeyPatch, memory: SharedMemory, name: str) -> None:
    monkeypatch.setattr(os, "environ", {})
    monkeypatch.setattr(profile, "shared_memory", lambda: memory)
    remark = use_shared_memory()
    assert os.environ == dict.fromkeys(PROFILE_VARIABLES, str(PACKAGE / "config" / name))
    assert bool(remark) is (memory is FULL)


def test_a_process_takes_no_more_than_is_asked_for() -> None:
    path = profile_path()
    assert path is not None
    (segment,) = re.findall(r"<segment_size>(\d+)<", path.read_text())
    assert int(segment) < PARTICIPANT_BYTES


@pytest.mark.skipif(importlib.util.find_spec("rclpy") is None, reason="needs the extra ros-test")
@pytest.mark.skipif(
    shutil.which("unshare") is None
    or os.getuid() != 0
    or subprocess.run(["unshare", "-m", "true"], check=False).returncode != 0,
    reason="mounting a small /dev/shm needs root and unshare",
)
@pytest.mark.parametrize(
    ("size", "source", "remark"),
    [
        ("8m", "tmpfs", "images come and maps go over UDP"),
        ("64m", "tmpfs", ""),
        ("64m", "shm", "is this container's own"),
    ],
)
def test_the_node_runs_and_answers_on_a_dev_shm_of_such_a_size(
    ros_environment: dict[str, str], tmp_path: Path, size: str, source: str, remark: str
) -> None:
    from tests.ros.harness import Partner, running

    environment = {name: value for name, value in ros_environment.items() if name not in PROFILE_VARIABLES}
    environment["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "SUBNET"  # LOCALHOST adds shared memory whatever the profile says
    mount = f"mount -t tmpfs -o size={size} {source} /dev/shm && exec "
    command = ["unshare", "-m", "sh", "-c", f'{mount}"$@"', "sh", sys.executable, "-m", "edge_mtl_ros.main"]
    bundle = make_bundle(tmp_path / "tiny")
    arguments = ("-p", f"bundle:={bundle.path}", "-p", "threads:=1")
    with running(environment, tmp_path / "log", *arguments, command=command) as node:
        node.wait_for_text("no engine was built here")
        memory = Path(f"/proc/{node.process.pid}/root/dev/shm")
        segments = [path for path in memory.glob("fastrtps_*") if path.stat().st_size > 16 << 20]
        assert len(segments) == (0 if size == "8m" else 1)
        if size == "8m":  # the test's /dev/shm is another one: only the network joins the two
            partner = Partner()
            try:
                partner.listen("segmentation")
                partner.wait_connected()
                partner.send_until("segmentation", make_image(1))
            finally:
                partner.close()
        assert node.end() == 0
        assert remark in node.text
        assert ("/dev/shm" in node.text) is bool(remark)
