"""Real disks that refuse: full, without inodes, over a quota, or read-only. They need root."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Disk", "disk_with_quota", "limit_quota", "mounting_works", "quota_works", "small_tmpfs"]

_MIB = 1 << 20


def _do(*words: object) -> str:
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OSError(f"{' '.join(map(str, words))}: {done.stderr.strip()}")
    return done.stdout.strip()


def mounting_works() -> str:
    """Why nothing can be mounted here; "" where it can."""
    if os.geteuid() != 0:
        return "mounting needs root"
    try:
        with small_tmpfs():
            return ""
    except OSError as exc:
        return f"nothing can be mounted: {exc}"


@dataclass(frozen=True, slots=True)
class Disk:
    """A file system of its own, or a part of one, at `path`."""

    path: Path

    def used(self) -> tuple[int, int]:
        """Bytes and inodes that are taken."""
        facts = os.statvfs(self.path)
        return (facts.f_blocks - facts.f_bfree) * facts.f_frsize, facts.f_files - facts.f_ffree

    def remount(self, *options: str) -> None:
        """Change what it allows: size=, nr_inodes=, ro, rw."""
        _do("mount", "-o", ",".join(("remount", *options)), self.path)


@contextmanager
def small_tmpfs() -> Iterator[Disk]:
    """A tmpfs, whose size is set by `Disk.remount`."""
    with _mounted("-t", "tmpfs", "-o", "size=256m,mode=755", "tmpfs") as path:
        yield Disk(path)


def quota_works() -> str:
    """Why there is no disk with a quota here; "" where there is."""
    if shutil.which("mkfs.btrfs") is None:
        return "mkfs.btrfs is not installed (apt install btrfs-progs)"
    try:
        with disk_with_quota():
            return ""
    except OSError as exc:
        return f"no disk with a quota can be made: {exc}"


@contextmanager
def disk_with_quota() -> Iterator[Disk]:
    """A btrfs in a file, whose subvolume may take as much as `limit_quota` says."""
    with tempfile.TemporaryDirectory(prefix="disk-") as place:
        image = Path(place) / "image"
        image.touch()
        os.truncate(image, 256 * _MIB)
        _do("mkfs.btrfs", "-q", image)
        with _mounted("-o", "loop", image) as path:
            _do("btrfs", "quota", "enable", path)
            _do("btrfs", "subvolume", "create", path / "limited")
            yield Disk(path / "limited")


def limit_quota(disk: Disk, more_kib: int | None) -> None:
    """Let the disk take so many KiB more than it has; None for no limit."""
    os.sync()
    group, top = _do("btrfs", "qgroup", "show", "--raw", "-f", disk.path).splitlines()[-1].split(), disk.path.parent
    limit = "none" if more_kib is None else int(group[1]) + more_kib * 1024
    _do("btrfs", "qgroup", "limit", limit, group[0], top)  # by the top: what is full cannot even be given a new limit


@contextmanager
def _mounted(*words: object) -> Iterator[Path]:
    place = Path(tempfile.mkdtemp(prefix="mount-"))
    try:
        _do("mount", *words, place)
        try:
            yield place
        finally:
            subprocess.run(["umount", "-l", str(place)], check=False)
    finally:
        place.rmdir()
