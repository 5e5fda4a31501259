"""The Fast DDS profile that images need: shared memory with room for more than one frame, or the network where that has none.

With the default transports most best-effort images over 512 kB are lost. The publisher's side decides, so the camera
driver needs the profile too. Fast DDS maps its segment without asking whether the memory is there: on a /dev/shm that is full
the first image ends the process with SIGBUS and no message, so the room is looked at before. Knows environment variables and
/dev/shm; must be called before rclpy is initialised.

Publication stays synchronous, the default of ROS: a thread of Fast DDS that sends in the background halves the time of
`publish`, but on a busy machine a map that it did not send yet is replaced by the next, and a reliable listener misses it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "PARTICIPANT_BYTES",
    "PROFILE_VARIABLES",
    "SharedMemory",
    "Transport",
    "choose_transport",
    "profile_path",
    "shared_memory",
    "transport_variables",
    "use_shared_memory",
]

PROFILE_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
"""The first is read up to Jazzy, the second from Kilted on."""

PARTICIPANT_BYTES = 19_000_000
"""Of /dev/shm for one process with the profile: 18.2 MB were measured, for the segment of 16 MiB and its ports."""

_FOLDER = Path("/dev/shm")  # noqa: S108
_MOUNTS = Path("/proc/self/mountinfo")
_SHARED, _NETWORK = "fastdds_shm.xml", "fastdds_udp.xml"
_REMEDY = (
    "In a container start it with --ipc=host (and the camera's container too), or with --shm-size=256m; else free some of it"
)


@dataclass(frozen=True, slots=True)
class SharedMemory:
    """Size of /dev/shm and what is free of it, bytes; whether it is a container's own, which nobody outside can see."""

    size: int
    free: int
    private: bool


@dataclass(frozen=True, slots=True)
class Transport:
    """How images travel: a profile by its file name, empty for what is set already; `remark` is what to say of it, or empty."""

    profile: str
    remark: str = ""


def use_shared_memory() -> str:
    """Give this process the profile that fits, unless the user named one. Returns what to say of it, or ""."""
    variables, remark = transport_variables()
    os.environ.update(variables)
    return remark


def transport_variables() -> tuple[dict[str, str], str]:
    """Environment variables that name the profile that fits, none where one is named already; and what to say of it, or ""."""
    chosen = choose_transport(shared_memory(), os.environ)
    path = profile_path(chosen.profile) if chosen.profile else None
    return {} if path is None else dict.fromkeys(PROFILE_VARIABLES, str(path)), chosen.remark


def choose_transport(memory: SharedMemory | None, environment: Mapping[str, str]) -> Transport:
    """The profile for a machine with such a /dev/shm (None: there is none); the user's where the environment names one."""
    if "fastrtps" not in environment.get("RMW_IMPLEMENTATION", "rmw_fastrtps_cpp"):
        return Transport("")
    theirs = any(environment.get(name) for name in PROFILE_VARIABLES)
    if memory is None or memory.free < PARTICIPANT_BYTES:
        state = (
            f"{_FOLDER} cannot be used" if memory is None else f"{_FOLDER} has {_mb(memory.free)} free of {_mb(memory.size)}"
        )
        said = f"{state}, and shared memory for images takes {_mb(PARTICIPANT_BYTES)} a process"
        if theirs:
            return Transport("", f"{said}: with the profile that is set images may be lost, or end the process. {_REMEDY}.")
        said += ": images come and maps go over UDP, which loses more of them"
        if environment.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "").upper() == "LOCALHOST":  # its participants have both
            said += ", or over a small shared memory that ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST adds, which loses most"
        return Transport(_NETWORK, f"{said}. {_REMEDY}.")
    if memory.private:
        said = f"{_FOLDER} ({_mb(memory.size)}) is this container's own: of a camera outside of it nothing may arrive"
        return Transport("" if theirs else _SHARED, f"{said}. Start both with --ipc=host, or with the profile {_NETWORK}.")
    return Transport("" if theirs else _SHARED)


def shared_memory(folder: Path = _FOLDER, mounts: Path = _MOUNTS) -> SharedMemory | None:
    """What is there of /dev/shm; None where there is none, or it cannot be written to."""
    try:
        facts = os.statvfs(folder)
        listed = mounts.read_text(errors="replace").splitlines()
    except OSError:
        return None
    if not os.access(folder, os.W_OK):
        return None
    # What container runtimes mount for one container is named "shm"; a host's, shared by --ipc=host, is not.
    sources = [line.partition(" - ")[2].split() for line in listed if line.split()[4:5] == [str(folder)]]
    private = bool(sources) and sources[-1][1:2] == ["shm"]
    return SharedMemory(facts.f_blocks * facts.f_frsize, facts.f_bavail * facts.f_frsize, private)


def profile_path(name: str = _SHARED) -> Path | None:
    """Where a profile of this package is: beside its sources, else where it is installed; None if neither."""
    beside_source = Path(__file__).resolve().parent.parent / "config" / name
    if beside_source.is_file():
        return beside_source
    try:
        from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
    except ImportError:
        return None
    try:
        installed = Path(get_package_share_directory("edge_mtl")) / "config" / name
    except PackageNotFoundError:
        return None
    return installed if installed.is_file() else None


def _mb(count: int) -> str:
    return f"{count / 1e6:.0f} MB"
