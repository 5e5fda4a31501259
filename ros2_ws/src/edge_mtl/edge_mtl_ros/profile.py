"""The Fast DDS profile that images need: shared memory with room for more than one frame.

With the default transports most best-effort images over 512 kB are lost. The publisher's side decides, so the camera
driver needs the profile too. Knows environment variables; must be called before rclpy is initialised.

Publication stays synchronous, the default of ROS: a thread of Fast DDS that sends in the background halves the time of
`publish`, but on a busy machine a map that it did not send yet is replaced by the next, and a reliable listener misses it.
"""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["PROFILE_VARIABLES", "use_shared_memory"]

PROFILE_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
"""The first is read up to Jazzy, the second from Kilted on."""

_NAME = Path("config") / "fastdds_shm.xml"


def use_shared_memory() -> Path | None:
    """Name our profile in both variables, unless the user named one in either. Returns what was set, if anything."""
    if any(os.environ.get(name) for name in PROFILE_VARIABLES):
        return None
    path = _profile()
    if path is not None:
        for name in PROFILE_VARIABLES:
            os.environ[name] = str(path)
    return path


def _profile() -> Path | None:
    beside_source = Path(__file__).resolve().parent.parent / _NAME
    if beside_source.is_file():
        return beside_source
    try:
        from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
    except ImportError:
        return None
    try:
        installed = Path(get_package_share_directory("edge_mtl")) / _NAME
    except PackageNotFoundError:
        return None
    return installed if installed.is_file() else None
