"""One environment: made by uv with the versions of its cell, used from an empty folder without the checkout in sight."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.reliability.installed import lay_out
from tests.reliability.versions.plan import RESOLUTIONS, Cell

__all__ = ["Environment", "Said", "find_uv"]

Said = subprocess.CompletedProcess[str]
_TIMEOUT_S = 3600


class Environment:
    """Programs of a virtual environment, run as a user would.

    Args:
        folder: for what commands write.
        python: the environment's interpreter.
        variables: of the environment, besides this process's own.
    """

    def __init__(self, folder: Path, python: Path, variables: Mapping[str, str] | None = None) -> None:
        self.folder, self.python = folder, python
        self._variables = dict(variables or {})
        self.empty = folder / "empty"
        self.empty.mkdir(parents=True)

    @classmethod
    def made(
        cls, folder: Path, interpreter: Path, cell: Cell, wheel: Path, required: Sequence[str], *, wheels: Path | None = None
    ) -> tuple[Environment, str]:
        """A fresh one with the wheel and what it requires in the versions of the cell; and what went wrong, empty if nothing.

        Versions without a wheel for that Python do not count: pip would need a compiler for them.

        Args:
            required: of `plan.requirements`.
            wheels: folder of more wheels, for what an index has in no form that fits.
        """
        folder.mkdir(parents=True)
        made = cls(folder, folder / "venv" / "bin" / "python")
        asked = folder / "requirements.txt"
        asked.write_text("\n".join((*required, *cell.mixed, "")))
        more = () if wheels is None else ("--find-links", str(wheels))
        steps = (
            ("install", "--no-build", *more, "--resolution", RESOLUTIONS[cell.resolution], "-r", str(asked)),
            ("install", "--no-deps", str(wheel)),
            ("install", "pytest>=8", "hypothesis>=6.100"),
            ("check",),
        )
        done = _uv("venv", "--python", str(interpreter), str(folder / "venv"))
        for step in steps:
            if done.returncode == 0:
                done = made.uv_pip(*step)
        if done.returncode != 0:
            return made, f"{' '.join(map(str, done.args[1:4]))}: {done.stderr.strip()[-800:]}"
        lay_out(folder / "checkout")
        return made, ""

    def uv_pip(self, command: str, *arguments: str) -> Said:
        """`uv pip COMMAND ARGUMENTS...` in this environment, which is named: uv would take that of the running Python."""
        return _uv("pip", command, "--python", str(self.python), *arguments)

    def run(self, *arguments: str, cwd: Path | None = None) -> Said:
        """Python of the environment."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "EDGE_MTL"))}
        environment |= {"XDG_CACHE_HOME": str(self.folder / "cache"), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"} | self._variables
        command = [str(self.python), *arguments]
        return subprocess.run(
            command,
            cwd=cwd or self.empty,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=_TIMEOUT_S,
        )

    def edge_mtl(self, *arguments: str) -> Said:
        """`edge-mtl` of the environment."""
        return self.run("-m", "edge_mtl.cli", *arguments)

    def versions(self, *names: str) -> dict[str, str]:
        """What is installed of `names`."""
        code = (
            "import sys\nfrom importlib.metadata import distributions\nfor one in distributions(): print(one.name, one.version)"
        )
        done = self.run("-c", code)
        installed = dict(line.split(" ") for line in done.stdout.splitlines())
        return {name: installed[name] for name in names if name in installed}

    def remove(self) -> None:
        """Free its disk space."""
        shutil.rmtree(self.folder, ignore_errors=True)


def find_uv() -> str:
    """The program: of this environment, else on the PATH.

    Raises:
        FileNotFoundError: it is in neither.
    """
    found = shutil.which("uv", path=sysconfig.get_path("scripts")) or shutil.which("uv")
    if found is None:
        raise FileNotFoundError("needs uv, which resolves and installs the versions: pip install uv")
    return found


def _uv(*arguments: str) -> Said:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    command = [find_uv(), *arguments, "--quiet"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S)
