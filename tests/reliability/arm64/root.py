"""A Debian of 64-bit ARM in a folder, whose programs the kernel hands to QEMU: what a user of such a machine types runs there.

Needs Linux, root, debootstrap and qemu-user-static. Mounts and names of a run are its own and gone with it.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

__all__ = ["PROCESSORS", "Arm", "missing", "registered"]

Said = subprocess.CompletedProcess[str]

SUITE, MIRROR = "bookworm", "http://deb.debian.org/debian"
PACKAGES = "python3,python3-venv,python3-pip,libgomp1,ca-certificates"
QEMU = "/usr/bin/qemu-aarch64-static"
_BINFMT = Path("/proc/sys/fs/binfmt_misc")
_MAGIC = r"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
_MASK = r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"
PROCESSORS: Mapping[str, tuple[str, str]] = {
    "cortex-a76": ("0xd0b", "fp asimd aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp"),
    "cortex-a72": ("0xd08", "fp asimd aes pmull sha1 sha2 crc32 cpuid"),
}
"""What QEMU emulates: part number and features as Linux shows them. The first is of the generation of a Jetson Orin's A78AE,
with dot products of bytes; the second has none, like a Raspberry Pi 4."""
_SETUP = """
set -e
mount -t proc proc "$1/proc"
mount --bind "$2" "$1/proc/cpuinfo"
mount --rbind /dev "$1/dev"
mount -t sysfs -o ro sysfs "$1/sys"
root=$1; shift 2
exec chroot "$root" "$@"
"""


def missing() -> str:
    """What this machine lacks to emulate ARM, a sentence; empty where it has all."""
    lacking = [name for name in ("debootstrap", "unshare", "chroot", Path(QEMU).name) if shutil.which(name) is None]
    if lacking:
        return f"needs {', '.join(lacking)}: apt-get install debootstrap qemu-user-static"
    if os.geteuid() != 0:
        return "needs root, to mount and to change the root folder"
    return "" if _BINFMT.is_dir() else "needs a kernel with binfmt_misc"


@contextmanager
def registered() -> Iterator[None]:
    """The kernel starts programs of 64-bit ARM by QEMU meanwhile; where it does already, nothing is changed."""
    if not (_BINFMT / "register").exists():
        subprocess.run(["mount", "-t", "binfmt_misc", "binfmt_misc", str(_BINFMT)], check=True)
    known = platform.machine() == "aarch64" or any("aarch64" in entry.name for entry in _BINFMT.iterdir())
    name = "edge-mtl-aarch64"
    if not known:
        (_BINFMT / "register").write_text(f":{name}:M::{_MAGIC}:{_MASK}:{QEMU}:POCF")
    try:
        yield
    finally:
        if not known:
            (_BINFMT / name).write_text("-1")


class Arm:
    """The Debian in `root`, made if it is not there yet.

    Args:
        processor: of `PROCESSORS`.
    """

    def __init__(self, root: Path, processor: str = next(iter(PROCESSORS))) -> None:
        self.root, self.processor = root.resolve(), processor

    def make(self) -> None:
        """Lay Debian out, where that was not finished before; a minute.

        Packages are unpacked and not configured: their scripts would take an hour in the emulator, and Python needs none.
        """
        done = self.root / "root" / ".made"
        if done.exists():
            return
        command = ["debootstrap", "--arch=arm64", "--variant=minbase", "--foreign", f"--include={PACKAGES}"]
        subprocess.run([*command, SUITE, str(self.root), MIRROR], check=True, stdout=subprocess.DEVNULL)
        for package in sorted((self.root / "var" / "cache" / "apt" / "archives").glob("*.deb")):
            content = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(package)], stdout=subprocess.PIPE)
            unpack = ["tar", "--extract", "--keep-directory-symlink", "--directory", str(self.root)]
            subprocess.run(unpack, stdin=content.stdout, check=True)
            if content.wait() != 0:
                raise RuntimeError(f"{package} cannot be unpacked: remove {self.root} and run again")
        for folder in (self.root / "proc", self.root / "sys"):
            if folder.is_symlink():  # what debootstrap makes inside a container
                folder.unlink()
            folder.mkdir(exist_ok=True)
        for name in ("passwd", "group"):
            shutil.copy(self.root / "usr" / "share" / "base-passwd" / f"{name}.master", self.root / "etc" / name)
        done.touch()

    def run(self, *words: str, cwd: str = "/root", timeout_s: float = 7200, processor: str | None = None) -> Said:
        """A program of that Debian, as root there, with its own HOME and PATH, and the processor's /proc/cpuinfo."""
        chosen = processor or self.processor
        cpuinfo = self.root / "root" / f"cpuinfo-{chosen}"
        cpuinfo.write_text(described(chosen, os.cpu_count() or 1))
        inside = [
            "/usr/bin/env",
            "-i",
            "-C",
            cwd,
            f"QEMU_CPU={chosen}",
            "HOME=/root",
            "LANG=C.UTF-8",
            "TERM=dumb",
            "COLUMNS=120",
        ]
        path = "PATH=/root/venv/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", _SETUP, "sh", str(self.root), str(cpuinfo)]
        return subprocess.run(
            [*command, *inside, path, "PYTEST_DISABLE_PLUGIN_AUTOLOAD=1", *words],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=timeout_s,
        )

    def install(self, wheels: Path, *names: str) -> Said:
        """A virtual environment with `names` out of `wheels`, no index asked; what is the same as before is kept."""
        own = sorted(wheels.glob("edge_mtl-*.whl"))
        wanted = [_digest(sorted(set(wheels.glob("*.whl")) - set(own))), _digest(own)]
        stamp, inside = self.root / "root" / ".installed", self.root / "root" / "wheels"
        found = stamp.read_text().split() if stamp.exists() else []
        if found == wanted:
            return Said([], 0, "", "")
        shutil.rmtree(inside, ignore_errors=True)
        shutil.copytree(wheels, inside)
        offline = ("install", "--quiet", "--no-index", "--find-links", "/root/wheels", "--no-compile")
        if found[:1] == wanted[:1]:
            done = self.run("pip", *offline, "--no-deps", "--force-reinstall", *(f"/root/wheels/{one.name}" for one in own))
        else:
            done = self.run("python3", "-m", "venv", "--clear", "/root/venv")
            if done.returncode == 0:
                done = self.run("pip", *offline, *names)
        if done.returncode == 0:
            stamp.write_text(" ".join(wanted))
        return done


def _digest(files: Sequence[Path]) -> str:
    """Of names and content."""
    content = hashlib.sha256()
    for file in files:
        content.update(file.name.encode() + hashlib.sha256(file.read_bytes()).digest())
    return content.hexdigest()


def described(processor: str, cores: int) -> str:
    """/proc/cpuinfo as Linux on that processor writes it; QEMU shows that of the machine it runs on."""
    part, features = PROCESSORS[processor]
    lines = ("BogoMIPS\t: 48.00", f"Features\t: {features}", "CPU implementer\t: 0x41", "CPU architecture: 8")
    more = ("CPU variant\t: 0x1", f"CPU part\t: {part}", "CPU revision\t: 0", "")
    return "\n".join(line for core in range(cores) for line in (f"processor\t: {core}", *lines, *more)) + "\n"


def platforms(newest: int = 36) -> Sequence[str]:
    """pip's names of Linux on 64-bit ARM up to glibc 2.`newest`, the version of `SUITE`."""
    return [*(f"manylinux_2_{minor}_aarch64" for minor in range(newest, 16, -1)), "manylinux2014_aarch64"]
