"""Command lines: every command and option of `edge-mtl` and of the scripts of training, with values that nobody means.

Commands run in this process, in a scratch folder that they cannot leave (`sandbox`), on a tiny bundle; those that would work
for long, being asked to, get one that is refused. No viewer is opened: `--view`, `--connect` and `--save` of
predict are left out. Scripts that would train or render (train.py, study.py, make_rooms.py) are not among them.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import random
import shutil
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from tests.reliability.fuzz.mutations import mutate_bytes
from tests.reliability.fuzz.sandbox import Guard, captured
from tests.reliability.fuzz.target import Target
from tests.reliability.fuzz.training import installed, training_modules
from tests.reliability.fuzz.values import NUMBERS, TEXTS, Mutation

__all__ = ["TARGETS"]

_DOCUMENTED = frozenset((0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 15, 16, 74, 130, 143))
"""Exit codes of `edge-mtl --help`, but for 70: an internal error is what is looked for."""
_QUICK = ("predict", "scale", "inspect", "engines", "export", "doctor", "compare")
"""Commands that get a whole bundle."""
_VIEWER = ("--view", "--connect", "--save")
_WORK = ("--rounds", "--seconds", "--count", "--limit", "--steps", "--threads", "--frames", "--batch", "--jobs", "--images")
"""Options that may ask for long work."""
_FILES = (
    "room.png", "wide.png", "broken.png", "tour.avi", "notes.txt", "empty", "images", "bag", "depths", "scale.json", "odd.json",
    "recipe.toml", "bundle", "bad-bundle", "own", "missing", "missing/a.png", "weights.pt", "out", "/dev/null", "/", ".", "..",
    "../../x", "camera:0", "camera:9", "7", "a" * 300, "caf\u00e9.png", "odd\udcff.png", "-", "--", "~/x", "room.png/x",
)  # fmt: skip
_OTHERS = (
    "auto", "fp32", "int8", "onnxruntime", "openvino", "reference", "cpu", "cuda:0", "cuda:99", "depth", "depth,normals",
    "segmentation,", "all", "panel", "npz,json", "bag", "30,30,15,11", "525,525,319.5,239.5", "1,2,3", "nan,nan,nan,nan",
    "10,20=1.5",    "room:10,20=1.5", "0=0", "miou=0.1", "none", "/camera/image_raw", "sqlite3", "mcap", "z", "ray", "network",
    "colour",
    "0,0,0.1", "inf", "-inf", "1e400", "0x10", "1_000", "\u0663", "\x1b[31m", "a\nb", "a\tb", "%s", "$(x)", "`x`", "'", '"',
)  # fmt: skip
_SCRIPTS = (
    "validate_dataset", "prepare_nyuv2", "export", "import_checkpoint", "pseudo_label", "evaluate", "make_teacher", "add_head",
)  # fmt: skip
Grammar = dict[str, dict[str, bool]]
"""By command, its options, and whether each takes a value."""


@cache
def _commands() -> Grammar:
    import typer

    from edge_mtl.cli import app

    group: Any = typer.main.get_command(app)
    found: Grammar = {}
    for name, command in group.commands.items():
        left_out = _VIEWER if name == "predict" else ()
        params = [param for param in command.params if hasattr(param, "is_flag")]
        found[name] = {option: not one.is_flag for one in params for option in one.opts if option not in left_out}
        found[name]["--help"] = False
    return found


@cache
def _scripts() -> Grammar:
    """What the scripts' parsers are told, seen as they are about to parse."""
    training_modules()
    found: Grammar = {}

    def told(name: str, parser: argparse.ArgumentParser, *_: Any) -> Any:
        actions = list(parser._actions)
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                actions += [inner for one in action.choices.values() for inner in one._actions]
        found[name] = {option: action.nargs != 0 for action in actions for option in action.option_strings}
        raise SystemExit(0)

    for name in _SCRIPTS:
        with (
            mock.patch.object(argparse.ArgumentParser, "parse_args", lambda parser, *_, name=name: told(name, parser)),
            contextlib.suppress(SystemExit),
        ):
            importlib.import_module(name).main([])
    return found


def _value(option: str, rng: random.Random) -> str:
    if option in _WORK:
        return rng.choice(("1", "2", "3", "0", "-1", "x", "", "1.5", "1e3", "nan", "9" * 30))
    return str(rng.choice((rng.choice(_FILES), rng.choice(_OTHERS), rng.choice(TEXTS), rng.choice(NUMBERS))))


def _mutation(grammar: Callable[[], Grammar]) -> Mutation:
    """Words of a command line put in, taken out, exchanged or altered."""

    def mutate(data: bytes, other: bytes, rng: random.Random) -> bytes:
        words = _words(data)
        for _ in range(rng.choice((1, 1, 2, 3, 5))):
            options = grammar().get(words[0], {"--help": False})
            at, how = rng.randrange(1, len(words) + 1), rng.random()
            if how < 0.5:
                words[at:at] = _option(options, rng)
            elif how < 0.75 and at < len(words):
                words[at] = _value(words[at - 1], rng)
            elif how < 0.82 and at < len(words):
                del words[at]
            elif how < 0.88:
                words.insert(at, rng.choice(words))
            elif how < 0.92:
                words[0] = rng.choice([*grammar(), "", "no-such", "--version", "-h"])
            elif how < 0.96:
                words[at:at] = _words(other)[1:]
            elif at < len(words):
                altered = mutate_bytes(words[at].encode(errors="surrogateescape"), b"-=,", rng)
                words[at] = altered.decode(errors="surrogateescape")
        return _line(words)

    return mutate


def _option(options: dict[str, bool], rng: random.Random) -> list[str]:
    option = rng.choice(list(options))
    if not options[option] or rng.random() < 0.05:
        return [option]
    value = _value(option, rng)
    return [option, value] if rng.random() < 0.8 else [f"{option}={value}"]


def _words(data: bytes) -> list[str]:
    """The words of a mutant; a process cannot be given a null."""
    return [word.decode(errors="surrogateescape") for word in data.split(b"\0")]


def _line(words: Sequence[str]) -> bytes:
    """As a process gets them: bytes that need not be UTF-8."""
    fit = (word.replace("\0", "").replace("\ud800", "\udcff") for word in words)
    return b"\0".join(word.encode(errors="surrogateescape") for word in fit)


def _stock(folder: Path) -> None:
    """Files that commands are given, whole ones and others."""
    import cv2

    from tests.bag_files import write_bag
    from tests.bundles import make_bundle, make_image, write_image
    from tests.video_files import write_video

    make_bundle(folder / "bundle", calibration=2, evaluation=1, golden=1)
    make_bundle(folder / "bad-bundle", calibration=1, evaluation=1, golden=1)
    (folder / "bad-bundle" / "weights.safetensors.packed").write_bytes(b"altered")
    room = make_image(7)
    write_image(folder / "room.png", room)
    cv2.imwrite(str(folder / "wide.png"), room.astype(np.uint16) * 16)
    (folder / "broken.png").write_bytes((folder / "room.png").read_bytes()[:300])
    write_video(folder / "tour.avi", 3, codec="MJPG")
    (folder / "notes.txt").write_text("text\n")
    (folder / "empty").write_bytes(b"")
    (folder / "images").mkdir()
    for number in range(2):
        write_image(folder / "images" / f"{number}.png", make_image(number))
    (folder / "images" / "bad.jpg").write_bytes(b"no image")
    write_bag(folder / "bag", [make_image(1)], storage="mcap", focal=80.0)
    (folder / "depths").mkdir()
    np.save(folder / "depths" / "room.npy", np.full((64, 96), 2.0, np.float32))
    (folder / "scale.json").write_text('{"factor": 1.2}')
    (folder / "odd.json").write_text("[[[")
    (folder / "recipe.toml").write_text("[calibration]\ncount = 2\n")
    (folder / "weights.pt").write_bytes(b"PK\x03\x04")
    (folder / "own").mkdir()
    (folder / "own" / "dataset.toml").write_text('title = "x"\n')


def _fresh(guard: Guard, stock: Path) -> None:
    shutil.rmtree(guard.work, ignore_errors=True)
    shutil.copytree(stock, guard.work)


def _open(folder: Path) -> Callable[[bytes], None]:
    from edge_mtl.cli import main

    guard, stock = Guard(folder), folder / "stock"
    stock.mkdir()
    _stock(stock)

    def read(data: bytes) -> None:
        words = _words(data)
        quick = next((word for word in words if word in _commands()), "") in _QUICK
        if not quick:
            words = ["bad-bundle" if word == "bundle" else word for word in words]
        os.environ["EDGE_MTL_BUNDLE"] = "bundle" if quick else "bad-bundle"
        _fresh(guard, stock)
        with guard.up(), warnings.catch_warnings():
            code, out, err = captured(lambda: main(words))
        if code not in _DOCUMENTED or "Traceback" in err:
            raise AssertionError(f"edge-mtl {words} ended with {code}: {err[-2000:]}")
        if "--json" in words and not {"-h", "--help", "--version"} & set(words):
            for line in out.splitlines():
                json.loads(line)

    for warm in _command_seeds(folder):
        read(warm)
    return read


def _command_seeds(folder: Path) -> Sequence[bytes]:
    lines = (
        ("predict", "room.png", "--json", "--backend", "onnxruntime"),
        ("predict", "images", "--out", "out", "--files", "npz,json,overlay", "--quiet"),
        ("predict", "tour.avi", "--out", "out", "--limit", "1", "--tasks", "depth"),
        ("predict", "bag", "--out", "out", "--files", "bag", "--intrinsics", "80,80,47.5,31.5"),
        ("scale", "room.png", "--point", "10,20=1.5", "--json"),
        ("scale", "room.png", "--depth-files", "depths", "--save", "out/scale.json"),
        ("inspect", "bundle", "--json"),
        ("inspect",),
        ("engines", "bundle", "--remove", "all"),
        ("export", "bundle", "--onnx", "out.onnx"),
        ("doctor", "--json"),
        ("compare", "odd.json", "scale.json"),
        ("build-engine", "bad-bundle", "--int8", "--recipe", "recipe.toml"),
        ("benchmark", "bad-bundle", "--rounds", "1", "--json"),
        ("verify", "bad-bundle", "--data", "images"),
        ("calibrate", "images", "--bundle", "bad-bundle", "--count", "1", "--out", "out"),
        ("demo", "--bundle", "bad-bundle", "--save", "demo.png"),
        ("profile", "bad-bundle"),
        ("sensitivity", "bad-bundle"),
    )
    return [_line(words) for words in lines]


def _open_scripts(folder: Path) -> Callable[[bytes], None]:
    training_modules()
    mains = {name: importlib.import_module(name).main for name in _SCRIPTS}
    guard, stock = Guard(folder), folder / "stock"
    stock.mkdir()
    _stock(stock)
    os.environ["EDGE_MTL_BUNDLE"] = "bad-bundle"

    def read(data: bytes) -> None:
        words = ["bad-bundle" if word == "bundle" else word for word in _words(data)]
        main = mains.get(words[0])
        if main is None:
            return

        def run() -> int:
            try:
                return int(main(words[1:]))
            except SystemExit as exc:  # argparse
                return exc.code if isinstance(exc.code, int) else 2

        _fresh(guard, stock)
        with guard.up(), warnings.catch_warnings():
            code, _, err = captured(run)
        if code not in {*_DOCUMENTED, 1} or "Traceback" in err:
            raise AssertionError(f"{words} ended with {code}: {err[-2000:]}")

    for warm in _script_seeds(folder):
        read(warm)
    return read


def _script_seeds(folder: Path) -> Sequence[bytes]:
    lines = (
        ("validate_dataset", "own", "--json"),
        ("validate_dataset", "images", "--kind", "coco"),
        ("prepare_nyuv2", "images", "images", "--out", "out", "--size", "24x32"),
        ("prepare_nyuv2", "adopt", "own", "--axes", "+x-y-z"),
        ("prepare_nyuv2", "parquet", "missing", "--out", "out"),
        ("prepare_nyuv2", "official", "odd.json", "--splits", "empty", "--classes", "notes.txt"),
        ("export", "weights.pt", "--out", "out"),
        ("import_checkpoint", "weights.pt", "--out", "out", "--size", "64x96"),
        ("pseudo_label", "own", "--bundle", "bad-bundle", "--tasks", "depth", "--json"),
        ("evaluate", "bad-bundle", "--json"),
        ("make_teacher", "odd.json", "out/teacher.onnx", "--root", "missing", "--steps", "0"),
        ("add_head", "bad-bundle", "--task", "objects", "--kind", "boxes", "--steps", "1"),
    )
    return [_line(words) for words in lines]


TARGETS = tuple(
    Target(name, "fuzz-commands", opened, seeds, _mutation(grammar), native=True)
    for name, opened, seeds, grammar, needs in (
        ("commands", _open, _command_seeds, _commands, ("rosbags",)),
        ("commands-training", _open_scripts, _script_seeds, _scripts, ("rosbags", "torch", "timm")),
    )
    if installed(*needs)
)
