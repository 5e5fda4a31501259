"""A scratch folder that commands under test cannot leave: what would be written elsewhere is refused, as without permission.

Nothing is opened over a network, no camera, and no file is written by Python outside of the folder while the guard is up.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

__all__ = ["Guard", "captured"]

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_DEEP = "a/b/c/d/e/f"
"""Below the folder, so that names that lead out of the working folder end within it."""


class Guard:
    """One for a process: an audit hook of Python cannot be taken away.

    Args:
        folder: the scratch folder, which holds home, cache and temporary files too.
    """

    def __init__(self, folder: Path) -> None:
        self._root = str(folder.resolve())
        self._up = False
        self.work = folder / _DEEP
        self.work.mkdir(parents=True, exist_ok=True)
        for name in ("home", "cache", "tmp"):
            (folder / name).mkdir(exist_ok=True)
        places = {"HOME": "home", "XDG_CACHE_HOME": "cache", "TMPDIR": "tmp"}
        os.environ |= {name: str(folder / place) for name, place in places.items()}
        tempfile.tempdir = None
        sys.dont_write_bytecode = True
        _without_cameras()
        sys.addaudithook(self._audit)

    @contextlib.contextmanager
    def up(self) -> Iterator[None]:
        """Within it the working folder is `work`, and the guard holds."""
        before = os.getcwd()
        os.chdir(self.work)
        self._up = True
        try:
            yield
        finally:
            self._up = False
            os.chdir(before)

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._up:
            return
        if event == "socket.connect":
            raise PermissionError(errno.EACCES, "no network here")
        if event == "open":
            path, mode, flags = arguments
            writing = flags & _WRITING if isinstance(flags, int) else any(letter in (mode or "") for letter in "wxa+")
            paths = [path] if writing else []
        elif event in ("os.mkdir", "os.remove", "os.rmdir", "os.truncate", "os.chmod", "os.chown", "os.utime", "shutil.rmtree"):
            paths = [arguments[0]]
        elif event in ("os.rename", "os.link", "os.symlink"):
            paths = list(arguments[:2])
        else:
            return
        for path in paths:
            if isinstance(path, (str, bytes)) and not self._is_inside(os.fsdecode(path)):
                raise PermissionError(errno.EACCES, "outside of the scratch folder", os.fsdecode(path))

    def _is_inside(self, path: str) -> bool:
        with contextlib.suppress(OSError, ValueError):
            real = os.path.realpath(path)
            return real == "/dev/null" or real == self._root or real.startswith((f"{self._root}/", "/proc/self/fd/", "/proc/"))
        return True  # a name that cannot be is for the system to refuse


def captured(call: Callable[[], int]) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of what `call` does, also of native code."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        kept = os.dup(1), os.dup(2)
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        try:
            code = call()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for descriptor, number in zip(kept, (1, 2), strict=True):
                os.dup2(descriptor, number)
                os.close(descriptor)
        texts = []
        for stream in (out, err):
            stream.seek(0)
            texts.append(stream.read().decode(errors="replace"))
    return code, texts[0], texts[1]


def _without_cameras() -> None:
    """Devices by number are none."""
    import cv2

    real: Any = cv2.VideoCapture

    def files_only(source: object, *arguments: Any) -> Any:
        return real("/nonexistent/camera") if isinstance(source, int) else real(source, *arguments)

    cv2.VideoCapture = files_only
