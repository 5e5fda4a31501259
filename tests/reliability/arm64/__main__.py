"""Installs the wheel on an emulated 64-bit ARM, types what a user types, runs the SDK's tests, compares answers with x86-64's.

python -m tests.reliability.arm64 --root FOLDER [--wheels FOLDER] [--only typed,tests,answers] [--out FILE]

FOLDER is made by debootstrap when it is not there, and kept. pip downloads the wheels for ARM; with --wheels they are kept,
too, and not downloaded again.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console

from tests.bundles import make_bundle, make_image
from tests.packaging.distributions import build, copy_of_checkout
from tests.reliability.arm64.answers import DEPLOYED, answers, compare, prepare
from tests.reliability.arm64.root import PROCESSORS, Arm, missing, platforms, registered
from tests.reliability.installed import PYTEST, TESTS, counts, failures, lay_out
from tests.reliability.record import GateRun

PARTS = ("typed", "tests", "answers")
ENGINE = """
import json, sys
import cv2
from edge_mtl import Engine
with Engine(sys.argv[1], precision="int8") as engine:
    prediction = engine.predict(cv2.imread(sys.argv[2]), channels="bgr")
    print(json.dumps([engine.info.precision, *(list(getattr(prediction, name).shape)
        for name in ("segmentation", "depth", "normals"))]))
"""


def typed(bundle: str) -> tuple[tuple[str, ...], ...]:
    """What a user of a Jetson types, but for TensorRT, in this order: the engine of the third is what later ones run."""
    return (
        ("edge-mtl", "doctor"),
        ("edge-mtl", "doctor", "--json"),
        ("edge-mtl", "build-engine", bundle, "--int8", *(("--max-drop", "none") if bundle == "tiny" else ())),
        ("edge-mtl", "engines", bundle),
        ("edge-mtl", "predict", "image.png", "--bundle", bundle, "--int8", "--out", "maps"),
        ("edge-mtl", "benchmark", bundle, "--rounds", "2", "--json"),
        ("edge-mtl", "demo", "--bundle", bundle, "--save", "demo.png"),
        ("python", "-c", ENGINE, bundle, "image.png"),
        ("edge-mtl", "predict", "image.png", "--fp32", "--out", "demo-bundle-maps"),
    )


_WRITTEN = ("maps", "demo.png", "demo-bundle-maps")


def main() -> int:
    """Run it; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.reliability.arm64", description=__doc__)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--wheels", type=Path, help="folder of wheels for ARM, filled if it is empty")
    parser.add_argument("--tests", type=lambda text: text.split(","), default=list(TESTS), help="some of the tests, by path")
    parser.add_argument(
        "--golden", type=Path, help="folder of frames, bundles and INT8 graphs to answer, filled if it is empty"
    )
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(PARTS), help=", ".join(PARTS))
    parser.add_argument(
        "--bundle",
        default="tiny",
        help="built and timed by the typed commands: tiny, or a name of a bundle, which takes an hour",
    )
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    if lacking := missing():
        print(f"arm64: {lacking}", file=sys.stderr)
        return 2
    run, console = GateRun("arm64"), Console(stderr=True, width=200)
    arm = Arm(asked.root)
    with registered(), tempfile.TemporaryDirectory() as scratch:
        console.log("Debian of 64-bit ARM")
        arm.make()
        folder = Path(scratch)
        wheel = build(copy_of_checkout(folder / "sources"), folder / "dist", "--wheel")["whl"]
        wheels = asked.wheels or folder / "wheels"
        download(wheel, wheels)
        console.log("install")
        done = arm.install(wheels, "edge-mtl[demo,bags]", "pytest", "hypothesis")
        if done.returncode != 0:
            run.violation(f"pip install edge-mtl[demo,bags]: {done.stderr.strip()[-800:]}")
            return run.finish(asked.out)
        run.count("installations")
        work = arm.root / "root" / f"work-{'-'.join(asked.only)}"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        run.note(
            "functional only: QEMU's user emulation of a Cortex-A76 (answers also of a Cortex-A72), Debian bookworm, "
            "Python 3.11; no time or speed is looked at, and no TensorRT"
        )
        if "typed" in asked.only:
            _typed(run, console, arm, work, asked.bundle)
        if "tests" in asked.only:
            _tests(run, console, arm, work, asked.tests)
        if "answers" in asked.only:
            _answers(run, console, arm, work, asked.golden or folder / "golden")
    return run.finish(asked.out)


def download(wheel: Path, wheels: Path) -> None:
    """The wheel with its extras for ARM, and pytest, into `wheels`; what lies there already is not downloaded again."""
    wheels.mkdir(parents=True, exist_ok=True)
    for old in wheels.glob("edge_mtl-*.whl"):
        old.unlink()
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:", "--python-version", "3.11"]
    command += [word for name in platforms() for word in ("--platform", name)]
    command += ["--find-links", str(wheels), "--dest", str(wheels), f"{wheel}[demo,bags]", "pytest", "hypothesis"]
    kept = subprocess.run([*command, "--no-index"], check=False, stderr=subprocess.DEVNULL)
    if kept.returncode != 0:
        subprocess.run(command, check=True)


def _typed(run: GateRun, console: Console, arm: Arm, work: Path, bundle: str) -> None:
    """The commands of `typed`, in an empty folder with one image, and the tiny bundle where that is asked for."""
    if bundle == "tiny":
        make_bundle(work / bundle)
    run.note(f"of the typed commands the engine was built of {bundle}")
    cv2.imwrite(str(work / "image.png"), make_image(3, height=480, width=640))
    for words in typed(bundle):
        shown = " ".join("ENGINE" if word is ENGINE else word for word in words)
        done = arm.run(*words, cwd=f"/root/{work.name}")
        console.log(f"{shown}: exit code {done.returncode}")
        run.count("commands")
        if done.returncode != 0:
            run.violation(f"{shown}: exit code {done.returncode}: {(done.stderr or done.stdout).strip()[-800:]}")
    for name in _WRITTEN:
        if not (work / name).exists():
            run.violation(f"{name} was not written")


def _tests(run: GateRun, console: Console, arm: Arm, work: Path, paths: Sequence[str]) -> None:
    """The SDK's tests of what is installed."""
    lay_out(work / "checkout")
    done = arm.run("python", *PYTEST, *paths, cwd=f"/root/{work.name}/checkout")
    counted = counts(done.stdout)
    console.log(f"tests: {dict(counted)}")
    for name, count in counted.items():
        run.count(f"tests {name}", count)
    if done.returncode != 0 or not counted["passed"]:
        for each in failures(done.stdout) or [f"pytest: exit code {done.returncode}: {(done.stdout + done.stderr)[-800:]}"]:
            run.violation(each)


def _answers(run: GateRun, console: Console, arm: Arm, work: Path, golden: Path) -> None:
    """Answers of both architectures, and the positive control: those of other weights must be told apart."""
    if not (golden / "frames.npz").exists():
        golden.mkdir(parents=True, exist_ok=True)
        prepare(golden)
    meant = answers(golden)
    shutil.copytree(golden, work / "golden")
    if not (work / "checkout").exists():
        lay_out(work / "checkout")
    for processor in PROCESSORS:
        words = (
            "python",
            "-m",
            "tests.reliability.arm64.answers",
            f"/root/{work.name}/golden",
            f"/root/{work.name}/{processor}.npz",
        )
        done = arm.run(*words, cwd=f"/root/{work.name}/checkout", processor=processor)
        if done.returncode != 0:
            run.violation(f"answers of {processor}: {done.stderr.strip()[-800:]}")
            continue
        with np.load(work / f"{processor}.npz") as content:
            found = {name: content[name] for name in content.files}
        wrong, told = compare(meant, found)
        for line in told:
            console.log(f"{processor}: {line}")
            run.note(f"{processor}, beside x86-64: {line}")
        run.count("answers compared", len(told))
        for line in wrong:
            run.violation(f"{processor}: {line}")
    for fault, altered in faults(meant).items():
        run.control(fault, "; ".join(compare(meant, altered)[0][:2]))


def faults(meant: dict[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """Answers as a broken machine would give them, by what is broken."""
    one, other = DEPLOYED
    swapped = {key.replace(one, other) if one in key else key.replace(other, one): values for key, values in meant.items()}
    depth = {key: values * np.float32(1.08) if key.endswith("/depth") else values for key, values in meant.items()}
    shifted = {key: values + (values < 255) if key.startswith("letterbox") else values for key, values in meant.items()}
    return {"answers of other weights": swapped, "distances 8 % too long": depth, "frames one grey level brighter": shifted}


if __name__ == "__main__":
    sys.exit(main())
