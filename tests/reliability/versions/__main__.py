"""Installs the wheel with the lowest and the highest versions that it allows, on every Python, and uses it there.

python -m tests.reliability.versions [--python 3.10,3.11] [--resolution lowest,highest] [--train] [--out FILE]

Interpreters are those on the PATH (python3.10 ...) or of --interpreters; those that are not here are skipped and noted. uv
downloads the packages. An environment is removed when it was used, so a run needs room for one.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from tests.packaging.distributions import build, copy_of_checkout
from tests.reliability.record import GateRun
from tests.reliability.versions.checks import CHECKS, every_command_explains_itself, train_check
from tests.reliability.versions.environment import Environment
from tests.reliability.versions.plan import PYTHONS, RESOLUTIONS, Cell, interpreters, plan, requirements

_TOLD = ("numpy", "typer", "onnx", "onnxruntime", "openvino", "opencv-python-headless", "protobuf", "rosbags")
_LOWERED = {"typer": "==0.12.0"}
"""The positive control: a bound that somebody lowered to a version that breaks every command."""


def main() -> int:
    """Run the matrix; the exit code."""
    asked = _arguments()
    run = GateRun("versions")
    console = Console(stderr=True, width=200)
    here = interpreters(asked.python, asked.interpreters)
    for version in asked.python:
        if version not in here:
            run.note(f"Python {version} is not on this machine, so nothing was tried on it")
    cells = plan(here, asked.resolution)
    if asked.train:
        cells = [replace(cell, train=True) for cell in cells if not cell.mixed]
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        wheel = asked.wheel or build(copy_of_checkout(folder / "sources"), folder / "dist", "--wheel")["whl"]
        if here:
            console.log(f"positive control: {_LOWERED}")
            _control(run, folder / "control", here, wheel)
        for number, cell in enumerate(cells, 1):
            if time.monotonic() - began > 60 * asked.minutes:
                run.note(f"{cell.name}: not tried, the minutes were over")
                continue
            console.log(f"{number} of {len(cells)}: {cell.name}")
            _try(run, console, folder / "cell", here[cell.python], cell, wheel, asked)
    return run.finish(asked.out)


def _try(
    run: GateRun, console: Console, folder: Path, interpreter: Path, cell: Cell, wheel: Path, asked: argparse.Namespace
) -> None:
    """One environment, with everything that is wrong there."""
    lowered = {"torch": f"=={asked.torch}"} if cell.train and asked.torch else None
    required = requirements(wheel, cell.extras, lowered)
    environment, problem = Environment.made(folder, interpreter, cell, wheel, required, wheels=asked.wheels)
    try:
        if problem:
            console.log(f"  WRONG {problem}")
            run.violation(f"{cell.name}: {problem}")
            return
        run.count("environments")
        found = environment.versions(*_TOLD, *(("torch", "timm") if cell.train else ()))
        console.log("  " + ", ".join(" ".join(item) for item in found.items()))
        if lowered:
            run.note(f"train: the lowest torch was not tried, {asked.torch} was: the index has it with CUDA only, gigabytes")
        checks = {**CHECKS, "train_check": train_check} if cell.train else CHECKS
        for name, check in checks.items():
            if name not in asked.checks:
                continue
            result = check(environment)
            console.log(f"  {name}: {dict(result.counts)}{' WRONG ' + result.wrong[0][:300] if result.wrong else ''}")
            for counted, count in result.counts.items():
                run.count(counted, count)
            for wrong in result.wrong:
                run.violation(f"{cell.name}: {name}: {wrong}")
    finally:
        environment.remove()


def _control(run: GateRun, folder: Path, here: dict[str, Path], wheel: Path) -> None:
    """A bound lowered too far must be seen."""
    python = "3.11" if "3.11" in here else next(iter(here))
    cell = Cell(python, "lowest")
    required = requirements(wheel, ("headless", "cpu"), _LOWERED)
    environment, problem = Environment.made(folder, here[python], cell, wheel, required)
    wrong = [problem] if problem else every_command_explains_itself(environment).wrong
    run.control("typer's lower bound put back to 0.12.0", wrong[0].replace("\n", " ")[-160:] if wrong else "")
    environment.remove()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.reliability.versions", description=__doc__)
    parser.add_argument("--python", type=lambda text: text.split(","), default=list(PYTHONS), help="versions, commas between")
    parser.add_argument("--resolution", type=lambda text: text.split(","), default=list(RESOLUTIONS), help="lowest, highest")
    parser.add_argument("--interpreters", type=Path, nargs="*", default=[], help="interpreters that are not on the PATH")
    parser.add_argument("--train", action="store_true", help="with the extra train, and a training of two steps")
    parser.add_argument(
        "--checks",
        type=lambda text: text.split(","),
        default=[*CHECKS, train_check.__name__],
        help="some of the checks, by name",
    )
    parser.add_argument("--torch", help="in place of the version that is resolved, where an index has that with CUDA only")
    parser.add_argument("--wheels", type=Path, help="folder of wheels, as of PyTorch's CPU builds")
    parser.add_argument("--wheel", type=Path, help="the wheel of this checkout, where several runs share one")
    parser.add_argument("--minutes", type=float, default=600, help="no environment is begun later")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    if unknown := set(asked.checks) - {*CHECKS, train_check.__name__}:
        parser.error(f"--checks: {', '.join(sorted(unknown))} is none of {', '.join([*CHECKS, train_check.__name__])}")
    if unknown := set(asked.resolution) - set(RESOLUTIONS):
        parser.error(f"--resolution: {', '.join(sorted(unknown))} is none of {', '.join(RESOLUTIONS)}")
    return asked


if __name__ == "__main__":
    sys.exit(main())
