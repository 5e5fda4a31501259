"""What a command may lack, by kind. A condition is what comes before its words, and what its process does first."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

__all__ = ["KINDS", "NOBODY_HERE", "Condition", "as_user", "conditions", "memory_ceilings"]

NOBODY_HERE = 54321
"""A user without an entry in /etc/passwd."""

_MIB = 1 << 20
_ALL = (
    *("predict-image", "predict-folder", "predict-video", "predict-bag", "build-engine", "calibrate", "export", "verify"),
    *("inspect", "doctor", "script", "scale"),
)
_SHIPPED = tuple(name for name in _ALL if name != "script")
"""Without a user's script, whose own printing is the user's."""
_FEW = ("predict-image", "build-engine", "script", "train")
_TWO = ("predict-image", "script")


@dataclass(frozen=True, slots=True)
class Condition:
    """What is taken away.

    Attributes:
        kind: of `KINDS`.
        commands: that are tried under it.
        prefix: words before the command's.
        first: what the process does before it becomes the command.
        variables: of its environment; None takes one away.
        works: whether it must work all the same.
        user: whose process it is, by number.
        silent: standard error leads nowhere, so that nothing can be said of errors.
        kills: the system may kill it, as where a container has too little memory.
        elsewhere: the machine looks like another one, so that its engines are stale afterwards, and results name another.
        missing: why it cannot be tried here; "" where it can.
    """

    name: str
    kind: str
    commands: tuple[str, ...] = _TWO
    prefix: tuple[str, ...] = ()
    first: Callable[[], None] | None = None
    variables: Mapping[str, str | None] = field(default_factory=dict)
    works: bool = False
    user: int | None = None
    silent: bool = False
    kills: bool = False
    elsewhere: bool = False
    missing: str = ""


def _limit(what: int, value: int) -> Callable[[], None]:
    return partial(resource.setrlimit, what, (value, value))


def memory_ceilings() -> Iterator[int]:
    """Bytes of address space, ever more."""
    yield from (mib * _MIB for mib in (*range(300, 2000, 170), *range(2000, 6001, 500)))


def memory(ceiling: int) -> Condition:
    """At most so much address space."""
    return Condition(f"RLIMIT_AS {ceiling // _MIB} MiB", "memory", _FEW, first=_limit(resource.RLIMIT_AS, ceiling))


def _root() -> str:
    return "" if os.geteuid() == 0 and shutil.which("setpriv") else "needs root and setpriv"


def as_user(user: int | None) -> tuple[str, ...]:
    """Words that run a command as a user, who may read everything: Python itself may lie in a home of somebody else."""
    if user is None:
        return ()
    may = ("--inh-caps", "-all,+dac_read_search", "--ambient-caps", "-all,+dac_read_search")
    return ("setpriv", "--reuid", str(user), "--regid", str(user), "--clear-groups", *may)


def _unshare() -> str:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return "needs root and unshare"
    done = subprocess.run(["unshare", "-m", "true"], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else f"unshare -m does not work: {done.stderr.strip()}"


def _faketime() -> str:
    return "" if shutil.which("faketime") else "libfaketime is not installed (apt install faketime)"


def _in_shell(before: str) -> tuple[str, ...]:
    """Words that run `before` in a mount namespace of its own, then the command."""
    return ("unshare", "-m", "sh", "-c", f'{before}; exec "$@"', "sh")


def _redirected(how: str) -> tuple[str, ...]:
    return ("sh", "-c", f'exec "$@" {how}', "sh")


def _without_cwd() -> None:
    place = tempfile.mkdtemp()
    os.chdir(place)
    os.rmdir(place)


def _one_core() -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


_DEV = (
    "mkdir -p /dev.kept && mount --bind /dev /dev.kept && mount -t tmpfs -o mode=755 tmpfs /dev && "
    "for n in null zero full random urandom tty; do cp -a /dev.kept/$n /dev/; done; umount -l /dev.kept; rmdir /dev.kept"
)


def _limits() -> Iterator[Condition]:
    for count in (8, 16, 32, 64):
        limit = _limit(resource.RLIMIT_NOFILE, count)
        yield Condition(f"{count} open files", "limits", (*_ALL, "train"), first=limit)
    for size in (0, 500, 20_000):
        limit = _limit(resource.RLIMIT_FSIZE, size)
        yield Condition(f"files of {size} bytes at most", "limits", (*_ALL, "train", "make-rooms"), first=limit)
    for count in (1, 2, 4):
        yield Condition(
            f"{count} processes and threads at most",
            "limits",
            (*_FEW, "demo"),
            first=_limit(resource.RLIMIT_NPROC, count),
            variables={"OMP_NUM_THREADS": None},
            user=NOBODY_HERE,
            missing=_root(),
        )


def _processors() -> Iterator[Condition]:
    yield Condition("one core", "processors", _FEW, first=_one_core, works=True)


def _user() -> Iterator[Condition]:
    bare = {"HOME": None, "XDG_CACHE_HOME": None, "USER": None, "LOGNAME": None}
    root = _root()
    yield Condition(
        "no HOME, no passwd entry", "user", (*_ALL, "train"), variables=bare, user=NOBODY_HERE, works=True, missing=root
    )
    lost = {"HOME": "{folder}/home/nowhere", "XDG_CACHE_HOME": None}
    yield Condition("HOME is missing", "user", _FEW, variables=lost, works=True)
    locked = {"HOME": "/proc", "XDG_CACHE_HOME": None}
    yield Condition("HOME cannot be written to", "user", _FEW, variables=locked, works=True)
    yield Condition("TMPDIR is missing", "user", _ALL, variables={"TMPDIR": "/nonexistent"}, works=True)
    yield Condition("umask 0777", "user", (*_FEW, "export"), first=partial(os.umask, 0o777), user=NOBODY_HERE, missing=root)
    yield Condition("the working folder was deleted", "user", _ALL, first=_without_cwd, works=True)
    yield Condition("the working folder was deleted", "user", ("train",), first=_without_cwd)  # PyTorch needs one


def _systems() -> Iterator[Condition]:
    unshare = _unshare()
    few = (*_FEW, "doctor")
    for name, how in {
        "no room in /dev/shm": "mount -t tmpfs -o size=4k,nr_inodes=1 tmpfs /dev/shm",
        "/dev/shm is read-only": "mount -t tmpfs -o ro tmpfs /dev/shm",
        "no /dev/shm": _DEV,
        "no /proc": "umount -l /proc",
        "no /sys": "umount -l /sys",
    }.items():
        yield Condition(name, "systems", few, prefix=_in_shell(how), works=True, elsewhere=name == "no /proc", missing=unshare)


def _clock() -> Iterator[Condition]:
    fake = _faketime()
    for name, moved in (("ten years back", "-10y"), ("ten years forward", "+10y")):
        yield Condition(
            f"a clock {name}",
            "clock",
            (*_FEW, "build-again", "resume"),
            prefix=("faketime", "-m", "--exclude-monotonic", "-f", moved),
            works=True,
            missing=fake,
        )
    yield Condition(
        "a monotonic clock that has just begun",
        "clock",
        _FEW,
        prefix=("unshare", "-T", "--fork", "--monotonic", "-100"),
        works=True,
        missing=_unshare(),
    )
    yield Condition("files of the future", "clock", ("build-again", "predict-engine", "resume"), works=True)


def _texts() -> Iterator[Condition]:
    for name, variables in {
        "LC_ALL=C": {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        "a locale that is not installed": {"LC_ALL": "xx_XX.UTF-8"},
        "ASCII streams": {"PYTHONIOENCODING": "ascii:strict"},
        "TERM=dumb, 20 columns": {"TERM": "dumb", "COLUMNS": "20"},
    }.items():
        yield Condition(name, "texts", _ALL, variables=variables, works=True)


def _streams() -> Iterator[Condition]:
    for name, how, silent in (
        ("no standard input", "<&-", False),
        ("no standard output", ">&-", False),
        ("no standard error", "2>&-", True),
        ("no standard streams", "<&- >&- 2>&-", True),
    ):
        yield Condition(name, "streams", (*_ALL, "train"), prefix=_redirected(how), silent=silent, works=True)
    for name, how, silent in (
        ("a full device for output", "> /dev/full", False),
        ("a full device for errors", "2> /dev/full", True),
        ("full devices", "> /dev/full 2> /dev/full", True),
    ):
        yield Condition(name, "streams", (*_SHIPPED, "train"), prefix=_redirected(how), silent=silent)
    leaving = ("bash", "-c", '"$@" | head -c 1 >/dev/null; exit ${PIPESTATUS[0]}', "bash")
    yield Condition("a reader that leaves", "streams", (*_SHIPPED, "train"), prefix=leaving)


@contextmanager
def _groups() -> Iterator[list[Condition]]:
    found = []
    with ExitStack() as stack:
        for mib in (256, 512, 1024):
            enter, missing = stack.enter_context(control_group("memory", "memory.limit_in_bytes", mib * _MIB))
            few = (*_FEW, "verify")
            found.append(Condition(f"a control group of {mib} MiB", "groups", few, first=enter, kills=True, missing=missing))
        enter, missing = stack.enter_context(control_group("cpu", "cpu.cfs_quota_us", 50_000))
        found.append(Condition("a control group of half a core", "groups", _FEW, first=enter, works=True, missing=missing))
        yield found


@contextmanager
def control_group(controller: str, file: str, value: int) -> Iterator[tuple[Callable[[], None] | None, str]]:
    """A control group (v1) with a limit: what puts a process into it, and why there is none."""
    root = Path("/sys/fs/cgroup") / controller
    if os.geteuid() != 0 or not root.is_dir():
        yield None, f"no control group of {controller} can be made here"
        return
    group = root / f"edge-mtl-{os.getpid()}-{value}"
    try:
        group.mkdir()
    except OSError as exc:
        yield None, f"no control group of {controller} can be made here: {exc.strerror}"
        return
    try:
        (group / file).write_text(str(value))

        def enter() -> None:
            (group / "cgroup.procs").write_text(str(os.getpid()))

        yield enter, ""
    finally:
        group.rmdir()


_SIMPLE: Mapping[str, Callable[[], Iterator[Condition]]] = {
    "limits": _limits,
    "processors": _processors,
    "user": _user,
    "systems": _systems,
    "clock": _clock,
    "texts": _texts,
    "streams": _streams,
}
KINDS = (*_SIMPLE, "groups")


@contextmanager
def conditions(kind: str) -> Iterator[list[Condition]]:
    """The conditions of a kind, good within the block; of memory there are `memory_ceilings`."""
    if kind == "groups":
        with _groups() as found:
            yield found
    else:
        yield list(_SIMPLE[kind]())
