"""Commands that the gates `errors` and `starvation` disturb, the folder they work in, and what may be found there afterwards.

A trial is one command in a fresh copy of its folder: bundle, images, a video, a bag, a cache and a place for results that holds
those of an earlier run. Knows nothing about how a trial is disturbed.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
from google.protobuf.message import DecodeError
from rosbags.highlevel import AnyReader, AnyReaderError

from edge_mtl.bundle import Bundle
from edge_mtl.console import EXIT_PIPE
from edge_mtl.engine_store.engines import EngineStore
from edge_mtl.errors import BuildError, EdgeMtlError
from edge_mtl.files import sha256_file
from edge_mtl.unfinished import TEMPORARY_PREFIX
from edge_mtl.weights.safetensors import read_tensors
from tests.bag_files import write_bag
from tests.bundles import canonical_intrinsics, make_bundle, make_image, write_image
from tests.video_files import write_video

__all__ = [
    "COMMANDS",
    "ROOT",
    "Command",
    "Found",
    "Normal",
    "alike",
    "environment",
    "faults",
    "is_receipt",
    "patience",
    "prepare",
    "run",
    "snapshot",
    "wrong_bundle",
]

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTED = (2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 74, 130, 141, 143)
"""Exit codes of the command line and of training that are promised to a user; 70, a bug of ours, is none that may be seen."""

_HEX = re.compile(r"[0-9a-f]{8,}|\b[0-9]{9,}\b")
_ADVICE = re.compile(
    r"\b(Add|Ask|Change|Continue|Download|End|Mend|Raise|Build|Check|Choose|Continue|Copy|Delete|Free|Give|Install|Let|Lower|Make|Name|Reduce|Remove|Rename|Restore|Run|Set|Start"
    r"|Stop|Take|Train|Try|Update|Use|Wait|Write|name another|run again|build the engine again|try again|run it again)\b"
)
_ERROR = re.compile(r"^(error|train|export|make_rooms|script): ")

SCRIPT = """
import sys
from edge_mtl import EdgeMtlError, Engine
import numpy as np

def main(words):
    try:
        with Engine(words[0], threads=1) as engine:
            prediction = engine.predict(np.full((64, 96, 3), 90, np.uint8), intrinsics=(88.0, 88.0, 47.5, 31.5))
            print("depth", round(float(np.median(prediction.depth)), 3))
    except EdgeMtlError as error:
        print(f"script: {error}", file=sys.stderr)
        return error.exit_code
    return 0

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
"""
"""What a user of `Engine` writes: it handles the errors that are promised, and no others. NumPy comes after edge_mtl: where no
thread can be started, NumPy interrupts a process that imports it first."""

_TINY = ("--max-drop", "none", "--backend", "onnxruntime", "--threads", "1")
_RUN = ("--bundle", "{folder}/bundle", "--backend", "onnxruntime", "--threads", "1")
_CAMERA = ("--intrinsics", ",".join(f"{number:g}" for number in canonical_intrinsics()))
_SETTINGS = {
    "data.root": "'{folder}/rooms'",
    "folder": "'{folder}/runs'",
    "name": "'tiny'",
    "data.train": "4",
    "data.validation": "2",
    "data.test": "2",
    "data.height": "32",
    "data.width": "64",
    "data.workers": "1",
    "stages": "[{{height=32, width=64, steps=4, batch=4}}]",
    "model.backbone": "test_convnext",
    "model.width": "8",
    "loop.device": "cpu",
    "loop.threads": "1",
    "loop.loader_workers": "0",
    "loop.precision": "fp32",
    "loop.pictures": "0",
    "loop.deterministic": "true",
    "loop.tensorboard": "false",
}
_TRAIN = tuple(word for key, value in _SETTINGS.items() for word in ("--set", f"{key}={value}"))


@dataclass(frozen=True, slots=True)
class Command:
    """One command under test.

    Attributes:
        words: its arguments; {folder} is the folder of the trial.
        program: "edge-mtl", a script of train/ by name, or "script": `SCRIPT`.
        needs: what lies in the folder besides the bundle, the cache and images.
        first: commands by name that ran there before.
        again: whether it ran before, on other images, so that its results replace older ones.
        reads: inputs whose reading may fail.
        once: it does something else when it runs a second time, so that no second run is compared.
        refuses: exit codes of a second run that finds what the first one made.
        more: words that a second run has besides.
    """

    name: str
    words: tuple[str, ...]
    program: str = "edge-mtl"
    needs: tuple[str, ...] = ()
    first: tuple[str, ...] = ()
    again: bool = False
    reads: tuple[str, ...] = ()
    once: bool = False
    refuses: tuple[int, ...] = ()
    more: tuple[str, ...] = ()

    @property
    def second(self) -> Command:
        """What is run once more afterwards."""
        return replace(self, words=(*self.words, *self.more))

    @property
    def trains(self) -> bool:
        """Whether it needs torch."""
        return self.program in ("train", "export", "make_rooms")

    def arguments(self, folder: Path) -> list[str]:
        """Its words for a trial in `folder`."""
        return [word.format(folder=folder) for word in self.words]

    def process(self, folder: Path) -> list[str]:
        """What starts it as a process."""
        if self.program == "edge-mtl":
            start = ["-m", "edge_mtl.cli"]
        elif self.program == "script":
            start = [str(folder / "script.py")]
        else:
            start = [str(ROOT / "train" / f"{self.program}.py")]
        return [sys.executable, *start, *self.arguments(folder)]


_IMAGE = ("predict", "{folder}/images/0.png", *_RUN, *_CAMERA)
_MANIFEST, _GRAPH, _WEIGHTS = "bundle/manifest.json", "bundle/model.deploy.onnx.parts", "bundle/weights.safetensors.packed"

COMMANDS: Mapping[str, Command] = {
    command.name: command
    for command in (
        Command(
            "build-engine",
            ("build-engine", "{folder}/bundle", "--int8", *_TINY),
            reads=(_MANIFEST, _GRAPH, _WEIGHTS, "bundle/calibration/000.png", "bundle/evaluation/000.png"),
        ),
        Command(
            "build-again",
            ("build-engine", "{folder}/bundle", "--int8", "--calibration", "{folder}/images", *_TINY),
            first=("build-engine",),
        ),
        Command(
            "calibrate",
            (
                "calibrate",
                "{folder}/images",
                "--bundle",
                "{folder}/bundle",
                "--count",
                "3",
                "--embedding",
                "colour",
                "--max-drop",
                "none",
            ),
            reads=(_MANIFEST, _GRAPH, "images/0.png"),
            once=True,
        ),
        Command(
            "rollback",
            ("calibrate", "--rollback", "--bundle", "{folder}/bundle"),
            first=("calibrate",),
            once=True,
        ),
        Command(
            "predict-image",
            (*_IMAGE, "--out", "{folder}/out", "--files", "overlay,panel,png,npz,json"),
            again=True,
            reads=(_MANIFEST, _GRAPH, _WEIGHTS, "images/0.png"),
        ),
        Command("predict-engine", (*_IMAGE, "--int8", "--json"), first=("build-engine",), reads=("bundle/engines",)),
        Command(
            "predict-folder",
            ("predict", "{folder}/images", *_RUN, *_CAMERA, "--out", "{folder}/out", "--files", "panel,npz"),
            again=True,
            reads=("images",),
        ),
        Command(
            "predict-video",
            ("predict", "{folder}/tour.mp4", *_RUN, "--out", "{folder}/out", "--files", "overlay,panel"),
            needs=("video",),
            again=True,
            reads=("tour.mp4",),
        ),
        Command(
            "predict-bag",
            ("predict", "{folder}/bag", *_RUN, "--out", "{folder}/maps", "--files", "bag"),
            needs=("bag",),
            once=True,
            reads=("bag/metadata.yaml", "bag/bag.db3"),
        ),
        Command(
            "predict-mcap",
            ("predict", "{folder}/mcap", *_RUN, "--out", "{folder}/maps", "--files", "bag"),
            needs=("mcap",),
            once=True,
            reads=("mcap/metadata.yaml", "mcap/mcap.mcap"),
        ),
        Command(
            "benchmark",
            (
                *("benchmark", "{folder}/bundle", "--rounds", "1", "--backend", "onnxruntime", "--threads", "1"),
                *("--save", "{folder}/out/bench.json", "--markdown", "{folder}/out/bench.md"),
                *("--html", "{folder}/out/bench.html"),
            ),
            again=True,
        ),
        Command("demo", ("demo", "--bundle", "{folder}/bundle", "--save", "{folder}/out/demo.png"), first=("build-engine",)),
        Command(
            "scale",
            (
                *("scale", "{folder}/images", *_RUN, *_CAMERA, "--max-spread", "1000"),
                *("--depth-files", "{folder}/depth", "--save", "{folder}/out/scale.json"),
            ),
            needs=("depth",),
            again=True,
            reads=("images/0.png", "depth/0.png"),
        ),
        Command(
            "export",
            (
                *("export", "{folder}/bundle", "--onnx", "{folder}/out/net.onnx", "--triton", "{folder}/out/triton"),
                *("--weights", "{folder}/out/net.safetensors"),
            ),
            once=True,
            reads=(_MANIFEST, _WEIGHTS),
        ),
        Command(
            "verify",
            ("verify", "{folder}/bundle", *_TINY, "--out", "{folder}/out/verified"),
            once=True,
            reads=("bundle/evaluation/000.png", "bundle/golden/000.npz"),
        ),
        Command("inspect", ("inspect", "{folder}/bundle", "--json"), reads=(_MANIFEST, _WEIGHTS)),
        Command("doctor", ("doctor", "--json")),
        Command("script", ("{folder}/bundle",), program="script", reads=(_MANIFEST, _GRAPH, _WEIGHTS)),
        Command("train", (*_TRAIN, "--no-export"), program="train", needs=("rooms",), more=("--resume",)),
        Command("resume", (*_TRAIN, "--no-export", "--resume"), program="train", needs=("rooms", "begun")),
        Command(
            "make-rooms",
            (
                *("--root", "{folder}/made", "--split", "val", "--count", "2", "--size", "32x64", "--workers", "1"),
                *("--preview", "{folder}/out/rooms.png", "--labelled", "{folder}/labelled"),
            ),
            program="make_rooms",
            refuses=(BuildError.exit_code,),
        ),
        Command(
            "train-export",
            ("{folder}/runs/tiny/best.safetensors", "--out", "{folder}/exported", "--replace"),
            program="export",
            needs=("rooms",),
            first=("train",),
            again=True,
            reads=("runs/tiny/best.safetensors",),
        ),
    )
}


def patience(normal_s: float) -> float:
    """Seconds after which a run hangs that takes `normal_s` undisturbed: 20 s more, on a machine that may be busy by now."""
    busy = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    return 6 * normal_s + 20.0 * busy


def environment(folder: Path) -> dict[str, str]:
    """The environment of a trial: home, cache and temporary files inside its folder."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("EDGE_MTL", "XDG"))}
    own = {"HOME": f"{folder}/home", "XDG_CACHE_HOME": f"{folder}/cache", "TMPDIR": f"{folder}/tmp"}
    paths = f"{ROOT}{os.pathsep}{ROOT / 'train'}"
    always = {"OMP_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    return kept | own | always | {"PYTHONPATH": paths}


def run(
    command: Command, folder: Path, *, timeout_s: float = 600.0, prefix: Iterable[str] = (), **changes: Any
) -> tuple[int | None, str, str]:
    """Run a command as a process in `folder`: exit code (None where it hung and was ended), output and errors.

    Args:
        prefix: words before the command's.
        changes: options of `subprocess.Popen`.
    """
    options: dict[str, Any] = {"env": environment(folder), "cwd": folder.parent, "stdin": subprocess.DEVNULL} | changes
    words = [*prefix, *command.process(folder)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True, **options)
    with ThreadPoolExecutor(2) as readers:  # pipes: files would have the limits of the trial
        said = [readers.submit(stream.read) for stream in (process.stdout, process.stderr) if stream is not None]
        try:
            code: int | None = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # what it left running, too, which holds the pipes
            process.wait()
        out, err = (each.result().decode(errors="replace") for each in said)
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()
    return code, out, err


Start = Callable[[Command, Path], None]


def prepare(command: Command, folder: Path, start: Start | None = None) -> None:
    """Make the folder of a command's trials, with whatever ran there before.

    Args:
        start: runs a command in a folder, and raises where it fails; by default as a process.
    """
    start = start or _must
    folder.mkdir(parents=True)
    for name in ("home", "cache", "tmp", "images"):
        (folder / name).mkdir()
    (folder / "cache").chmod(0o700)
    (folder / "script.py").write_text(SCRIPT)
    make_bundle(folder / "bundle", calibration=4, evaluation=2, golden=1)
    _inputs(command, folder, seed=0)
    if "begun" in command.needs:
        begun = [word.replace("steps=4", "steps=2") for word in COMMANDS["train"].words]
        start(Command("begin", tuple(begun), program="train"), folder)
    for name in command.first:
        start(COMMANDS[name], folder)
    if command.again:
        start(command, folder)
        _inputs(command, folder, seed=100)


def _inputs(command: Command, folder: Path, *, seed: int) -> None:
    for index in range(3):
        write_image(folder / "images" / f"{index}.png", make_image(seed + index))
    if "video" in command.needs:
        write_video(folder / "tour.mp4", 5 + seed // 50)
    for storage in ("bag", "mcap"):
        if storage in command.needs:
            frames = [make_image(index) for index in range(3)]
            write_bag(folder / storage, frames, storage="mcap" if storage == "mcap" else "sqlite3", focal=88.0)
    if "depth" in command.needs:
        (folder / "depth").mkdir(exist_ok=True)
        for index in range(3):
            metres = np.full((64, 96), 2000 + index + seed, np.uint16)
            cv2.imwrite(str(folder / "depth" / f"{index}.png"), metres)
    if "rooms" in command.needs and not (folder / "rooms").exists():
        if str(ROOT / "train") not in sys.path:
            sys.path.insert(0, str(ROOT / "train"))
        from tests.tiny_training import make_rooms

        make_rooms(folder / "rooms")


def _must(command: Command, folder: Path) -> None:
    code, _, err = run(command, folder)
    if code != 0:
        raise RuntimeError(f"{command.name} failed with nothing disturbed: {code}\n{err}")


def snapshot(folder: Path) -> dict[str, str]:
    """What every file in `folder` holds, by its path there: a digest, or "" for folders."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        found[name] = "" if path.is_dir() and not path.is_symlink() else sha256_file(path) if path.is_file() else "other"
    return found


@dataclass(frozen=True, slots=True)
class Normal:
    """What an undisturbed run makes of a folder.

    Attributes:
        before, after: contents, see `snapshot`.
        steady: names whose content two runs make alike.
        seconds: a run's duration.
    """

    before: dict[str, str]
    after: dict[str, str]
    steady: frozenset[str]
    seconds: float


def alike(one: Mapping[str, str], other: Mapping[str, str]) -> frozenset[str]:
    """Names whose content two undisturbed runs made alike, see `Normal.steady`.

    A runtime's compiled code is never among them: OpenVINO writes one of several, and two runs may meet by chance. Nor are
    looks at frames: of one that cannot be read they say so.
    """
    same = (name for name, content in other.items() if content and one.get(name) == content)
    return frozenset(name for name in same if not name.startswith(("cache/edge_mtl/compiled/", "cache/edge_mtl/looks/")))


@dataclass(frozen=True, slots=True)
class Found:
    """What a disturbed run left: exit code (negative: ended by a signal; None: hung), its streams, and the folder."""

    code: int | None
    out: str
    err: str
    content: Mapping[str, str]


def _plainly(name: str) -> str:
    """A name without digests and times, by which two runs' files are matched."""
    return _HEX.sub("*", name)


def faults(
    command: Command, normal: Normal, found: Found, folder: Path, *, may_leave: Callable[[str], bool] = lambda name: False
) -> list[str]:
    """What must not be after a disturbed run, one line each.

    Args:
        may_leave: whether a leftover is allowed by what was disturbed, as where nothing can be deleted.
    """
    said = [] if found.code == 0 else _wrong_ending(found)
    begun = command.trains and found.code != 0  # its checkpoints are of fewer steps
    known = {_plainly(name) for name in (*normal.before, *normal.after)}
    for name, content in found.content.items():
        if _plainly(name) not in known or TEMPORARY_PREFIX in name:
            if not may_leave(name):
                said.append(f"left {name}")
        elif (
            content
            and content not in (normal.before.get(name), normal.after.get(name))
            and ((name in normal.steady and not begun) or not _whole(folder / name))
        ):
            said.append(f"{name} is neither the old content nor the new")
    for name in normal.before:
        if name not in found.content and name in normal.after:
            said.append(f"{name} is lost")
    if found.code == 0:
        there = {_plainly(name) for name in found.content}
        said += [
            f"exit code 0 without {name}"
            for name in normal.after
            if _plainly(name) not in there and not name.startswith(("cache/", "home/", "tmp/"))
        ]
        old = [name for name in normal.steady if found.content.get(name) != normal.after[name]]
        said += [f"exit code 0 with an old {name}" for name in old if name in found.content]
    said += wrong_bundle(folder / "bundle")
    return said


def _wrong_ending(found: Found) -> list[str]:
    if found.code is None:
        return ["it hung"]
    if found.code == EXIT_PIPE and not found.err.count("Traceback"):
        return []  # whoever would read of an error has left
    if found.code < 0:
        return [f"ended by signal {-found.code}: {_last(found.err)}"]
    said = []
    if "Traceback" in found.err:
        said.append(f"a traceback: {_last(found.err)}")
    elif found.code not in DOCUMENTED:
        said.append(f"exit code {found.code}: {_last(found.err)}")
    errors = [line for line in found.err.splitlines() if _ERROR.match(line)]
    if len(errors) != 1 and not said:
        said.append(f"{len(errors)} lines of error: {_last(found.err)}")
    elif errors and found.code in DOCUMENTED and not _ADVICE.search(errors[0]):
        said.append(f"nothing said of what to do: {errors[0]}")
    return said


def _last(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1][:300] if lines else "nothing said"


def wrong_bundle(path: Path) -> list[str]:
    """What is wrong with the bundle and its engines: nothing may ever be."""
    try:
        bundle = Bundle.open(path)
        bundle.verify()
        store = EngineStore(bundle)
        said = [*store.problems()]
        for record in store.list():
            store.load(record)
    except EdgeMtlError as exc:
        return [str(exc)]
    return said


def _json(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for part in text.splitlines() if path.suffix == ".jsonl" else [text]:
        json.loads(part)


def _image(path: Path) -> None:
    if cv2.imread(str(path), cv2.IMREAD_UNCHANGED) is None:
        raise ValueError(path)


def _video(path: Path) -> None:
    video = cv2.VideoCapture(str(path))
    count = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
    read = sum(1 for _ in range(count) if video.read()[0])
    video.release()
    if not count or read != count:
        raise ValueError(f"{read} of {count} frames")


def _bag(path: Path) -> None:
    with AnyReader([path.parent]) as reader:
        if sum(1 for _ in reader.messages()) != reader.message_count:
            raise ValueError(path)


def _zip(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        if archive.testzip() is not None:
            raise ValueError(path)


def _weights(path: Path) -> None:
    read_tensors(path.read_bytes(), name=path.name)


def _graph(path: Path) -> None:
    onnx.load_from_string(path.read_bytes())


def _ended(path: Path) -> None:
    if not path.read_bytes().endswith(b"\n"):
        raise ValueError(path)


_WHOLE: Mapping[str, Callable[[Path], None]] = {
    ".json": _json,
    ".jsonl": _json,
    ".png": _image,
    ".jpg": _image,
    ".mp4": _video,
    ".yaml": _bag,
    ".db3": _bag,
    ".mcap": _bag,
    ".npz": _zip,
    ".pt": _zip,
    ".safetensors": _weights,
    ".onnx": _graph,
    ".md": _ended,
    ".html": _ended,
}
_ANY = ("events.out.", ".lock", ".code")
"""Files of other programs that are appended to, locks, and code whose sidecar says what it must be."""


def is_receipt(path: Path) -> bool:
    """Whether it is an empty file whose name says which plan was built here; those of killed builds stay, 4096 at most."""
    return path.parent.name == "built" and path.stat().st_size == 0


def _whole(path: Path) -> bool:
    """Whether a file that differs from run to run can be read to its end."""
    if any(part in path.name for part in _ANY):
        return True
    if is_receipt(path):
        return True
    check = _WHOLE.get(path.suffix)
    if check is None:
        return False
    try:
        check(path)
    except (OSError, ValueError, KeyError, EdgeMtlError, zipfile.BadZipFile, AnyReaderError, DecodeError):
        return False
    return True
