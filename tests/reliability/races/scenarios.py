"""What races with what: each scenario starts processes on a stage of its own and says what must not have happened."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import cv2

from edge_mtl import Engine, EngineClosed
from edge_mtl.backends import CompiledGraph
from edge_mtl.builder import pipeline
from edge_mtl.builder.recalibrate import recalibrate
from edge_mtl.bundle import Bundle
from edge_mtl.engine_store.engines import EngineStore
from edge_mtl.engine_store.revision import history, rollback
from edge_mtl.files import atomic_directory
from edge_mtl.sources.folders import folder_source
from edge_mtl.unfinished import TEMPORARY_PREFIX
from tests.bundles import make_image, write_image
from tests.reliability.races.processes import HANG_S, Outcome, together
from tests.reliability.races.stage import SIZE, Stage, answer, build, digest

__all__ = ["SCENARIOS", "Scenario"]

Scenario = Callable[[Stage, int], list[str]]
_SWAPS = 12
_READS = 6


def builders(stage: Stage, seed: int, *, processes: int = 8) -> list[str]:
    """Eight builds of one engine at once: one is made, the others take it, and all answer alike."""
    stage.without_engines()

    def role() -> tuple[bool, str]:
        return build(stage.path), answer(stage.path)

    found = together(seed, [(f"builder {number}", role) for number in range(processes)])
    built = sum(outcome.value[0] for outcome in found if outcome.value)
    answers = {outcome.value[1] for outcome in found if outcome.value}
    return [
        *_failed(found),
        *([f"{built} builds, 1 was expected"] if built != 1 else []),
        *([f"{len(answers)} answers"] if len(answers) > 1 else []),
        *stage.faults(),
    ]


def engine_replaced(
    stage: Stage, seed: int, *, save: Callable[[EngineStore, Any, bytes], object] = EngineStore.save
) -> list[str]:
    """Engines of one key take each other's place while readers open them: each answers as the old or as the new one."""
    pair = [stage.engine(), stage.other_engine()]

    def write() -> None:
        store = EngineStore(Bundle.open(stage.path))
        for number in range(_SWAPS):
            with store.building():
                save(store, *pair[(number + 1) % 2])

    found = together(seed, [("writer", write), *_readers(3, partial(answer, stage.path, self_test="off"))])
    return [*_failed(found), *_answers(found, {stage.answers[2, "int8"], stage.answers[1, "int8"]}), *stage.faults()]


def rolled_back(stage: Stage, seed: int) -> list[str]:
    """The bundle goes back and forth between its revisions while readers open it: each answers as one of the two."""

    def write() -> None:
        for number in range(_SWAPS // 2):
            rollback(stage.path, to=1 if number % 2 == 0 else 2)

    reads = [
        ("reader int8", _repeat(partial(answer, stage.path))),
        ("reader fp32", _repeat(partial(answer, stage.path, precision="fp32"))),
    ]
    found = together(seed, [("writer", write), *reads])
    return [*_failed(found), *_answers(found, set(stage.answers.values())), *stage.faults()]


def folder_replaced(stage: Stage, seed: int, *, swap: Callable[[Path, Path], None] | None = None) -> list[str]:
    """The folder of the bundle is replaced by another as a whole, while it is opened, and while an engine of it is open."""

    def whole(source: Path, path: Path) -> None:
        with atomic_directory(path, replace=True) as folder:
            shutil.copytree(source, folder, dirs_exist_ok=True)
            (folder / "engines").chmod(0o700)

    sources = [
        shutil.copytree(path, stage.folder.parent / f"source-{number}") for number, path in ((1, stage.old), (2, stage.path))
    ]

    def write() -> None:
        for number in range(_SWAPS // 2):
            (swap or whole)(sources[number % 2], stage.path)

    def hold() -> list[str]:
        with Engine(stage.path, backend="onnxruntime", precision="fp32", threads=1) as engine:
            first = digest(engine)
            for _ in range(30):
                if digest(engine) != first:
                    raise AssertionError("an open engine changed its answer")
                time.sleep(0.005)
        return [first]

    found = together(seed, [("writer", write), ("holder", hold), *_readers(2, partial(answer, stage.path))])
    return [*_failed(found), *_answers(found, set(stage.answers.values())), *stage.faults()]


def removed(stage: Stage, seed: int) -> list[str]:
    """Engines are removed, leftovers swept and engines stored again while readers open what is there: INT8, or FP32 without."""
    record, payload = stage.engine()
    store = EngineStore(Bundle.open(stage.path))

    def write() -> None:
        for _ in range(_SWAPS // 2):
            with store.building():
                store.remove(record)
            time.sleep(0.01)
            with store.building():
                store.save(record, payload)

    def sweep() -> None:
        for _ in range(_SWAPS):
            with store.building():
                pass
            if problems := EngineStore(Bundle.open(stage.path)).problems():
                raise AssertionError("; ".join(problems))

    either = partial(answer, stage.path, precision="auto")
    found = together(seed, [("writer", write), ("sweeper", sweep), *_readers(2, either)])
    return [*_failed(found), *_answers(found, {stage.answers[2, "int8"], stage.answers[2, "fp32"]}), *stage.faults()]


def remove_and_build(stage: Stage, seed: int) -> list[str]:
    """`edge-mtl engines --remove all` and a build at once: the command removes what it listed, or nothing is left of either."""
    pair = stage.other_engine()

    def command() -> int:
        return _command("engines", str(stage.path), "--remove", "all", "--json")

    def write() -> None:
        store = EngineStore(Bundle.open(stage.path))
        with store.building():
            store.save(*pair)

    found = together(seed, [("remove", command), ("writer", write)])
    codes = [outcome.value for outcome in found if outcome.role == "remove" and outcome.value]
    return [*_failed(found), *[f"edge-mtl engines ended with {code}" for code in codes], *stage.faults(engines=(0, 1))]


def reloaded(stage: Stage, seed: int) -> list[str]:
    """Threads predict while their engine is replaced by a new one, and the bundle changes its revision meanwhile."""

    def serve() -> list[str]:
        held = [_open(stage.path)]
        over, answers, errors = threading.Event(), set(), []

        def predict() -> None:
            while not over.is_set():
                try:
                    answers.add(digest(held[0]))
                except EngineClosed:
                    continue  # the next look takes the new engine
                except BaseException as exc:
                    errors.append(f"{type(exc).__name__}: {exc}")
                    return

        threads = [threading.Thread(target=predict) for _ in range(3)]
        for thread in threads:
            thread.start()
        for _ in range(_READS):
            before, held[0] = held[0], _open(stage.path)
            before.close()
        over.set()
        for thread in threads:
            thread.join()
        held[0].close()
        if errors:
            raise AssertionError("; ".join(errors))
        return sorted(answers)

    def write() -> None:
        for number in range(_SWAPS // 3):
            rollback(stage.path, to=1 if number % 2 == 0 else 2)

    found = together(seed, [("server 1", serve), ("server 2", serve), ("writer", write)])
    return [*_failed(found), *_answers(found, set(stage.answers.values())), *stage.faults()]


def shared_by_threads(stage: Stage, seed: int, *, inferences: int = 100) -> list[str]:
    """Four threads and one engine give what one thread gives, frame by frame."""

    def serve() -> list[str]:
        sizes = ((16, 16), (12, 20), (24, 9), (17, 31))
        frames = [make_image(number, height=h, width=w) for number, (h, w) in enumerate(sizes)]
        engine, wrong = _open(stage.path), []
        expected = [engine.predict(frame) for frame in frames]

        def predict(offset: int) -> None:
            for number in range(inferences):
                which = (number + offset) % len(frames)
                finish = "lazily" if number % 3 == 0 else "now"
                found, wanted = engine.predict(frames[which], finish=finish), expected[which]  # type: ignore[arg-type]
                same = (found.depth == wanted.depth).all() and (found.segmentation == wanted.segmentation).all()  # type: ignore[union-attr]
                if not same or not (found.normals == wanted.normals).all():  # type: ignore[union-attr]
                    wrong.append(f"thread {offset}, inference {number}: another answer than of one thread")

        threads = [threading.Thread(target=predict, args=(offset,)) for offset in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        engine.close()
        if wrong:
            raise AssertionError("; ".join(wrong[:3]))
        return []

    found = together(seed, [("server", serve)], hang_s=max(HANG_S, 0.3 * inferences))
    return [*_failed(found), *stage.faults()]


def holder_killed(stage: Stage, seed: int) -> list[str]:
    """The process that holds the store is killed amid its work while others wait: one of them builds, nothing is left of it."""
    stage.without_engines()
    folder, dice = stage.path / "engines", random.Random(seed)
    dies_s, ready = dice.random() * 0.2, stage.folder.parent / "ready"

    def hold() -> None:
        with EngineStore(Bundle.open(stage.path)).building():
            (folder / f"{TEMPORARY_PREFIX}half").write_bytes(b"half")
            (folder / f"{'0' * 32}.{'1' * 12}.onnx").write_bytes(b"described by nothing")
            ready.touch()
            time.sleep(dies_s)
            os.kill(os.getpid(), signal.SIGKILL)

    def role() -> tuple[bool, str]:
        while not ready.exists():
            time.sleep(0.001)
        return build(stage.path), answer(stage.path)

    found = together(seed, [("holder", hold), *[(f"builder {number}", role) for number in range(3)]])
    rest = [outcome for outcome in found if outcome.role != "holder"]
    built = sum(outcome.value[0] for outcome in rest if outcome.value)
    return [*_failed(rest), *([f"{built} builds, 1 was expected"] if built != 1 else []), *stage.faults()]


def forked_in_a_thread(stage: Stage, seed: int) -> list[str]:
    """A thread forks while others predict and open engines: the child is refused and ends, the parent goes on."""

    def serve() -> list[str]:
        engine, over = _open(stage.path), threading.Event()
        lazy = engine.predict(make_image(5, height=SIZE, width=SIZE), finish="lazily")
        wanted, codes = digest(engine), []

        def predict() -> None:
            while not over.is_set():
                digest(engine)

        def fork() -> None:
            for _ in range(4):
                child = os.fork()
                if child == 0:
                    os._exit(_refused(engine, lazy))
                codes.append(_code(child))

        others = [threading.Thread(target=predict) for _ in range(2)]
        for thread in others:
            thread.start()
        forker = threading.Thread(target=fork)
        forker.start()
        while forker.is_alive():
            _open(stage.path).close()
        over.set()
        for thread in others:
            thread.join()
        if any(codes) or digest(engine) != wanted:
            raise AssertionError(f"forked children ended with {codes}")
        return []

    return [*_failed(together(seed, [("server", serve)], calm=("server",))), *stage.faults()]


def compiled_kept(stage: Stage, seed: int) -> list[str]:
    """Builds of several bundles keep compiled code in the user's cache at once: each finds its own afterwards."""
    record, _ = stage.engine()
    records = [_with_key(record, f"{number}" * 32) for number in range(5)]

    def keep(number: int) -> None:
        store = EngineStore(Bundle.open(stage.path)).compiled
        for version in range(4):
            store.keep(records[number], CompiledGraph(f"code {number} {version}".encode() * 50, "a test"))

    found = together(seed, [(f"builder {number}", partial(keep, number)) for number in range(len(records))])
    store = EngineStore(Bundle.open(stage.path)).compiled
    lost = [
        f"compiled code of builder {number} is gone: {store.load(each)[1]}"
        for number, each in enumerate(records)
        if store.load(each)[0] is None
    ]
    return [*_failed(found), *lost, *stage.faults()]


def predicted_twice(stage: Stage, seed: int) -> list[str]:
    """Two `edge-mtl predict` write the same files into the same folder: every file is whole."""
    images, out = stage.folder.parent / "images", stage.folder.parent / "results"
    images.mkdir()
    for number in range(3):
        write_image(images / f"{number}.png", make_image(number, height=SIZE, width=SIZE))

    def command() -> int:
        code = _command(
            "predict", str(images), "--bundle", str(stage.path), "--out", str(out), "--precision", "fp32", "--quiet"
        )
        if code:
            raise AssertionError(f"edge-mtl predict ended with {code}")
        return code

    found = together(seed, [("predict 1", command), ("predict 2", command)])
    return [*_failed(found), *_unreadable(out), *stage.faults()]


def calibrated_twice(stage: Stage, seed: int) -> list[str]:
    """Two calibrations at once: one after the other, each a revision of its own."""
    source = _source(stage, seed)
    found = together(seed, [(f"calibrate {number}", partial(_calibrate, stage, source)) for number in range(2)])
    now = Bundle.open(stage.path).manifest.revision
    kept = sorted(history(stage.path))
    wrong = [] if now == 4 and kept == [1, 2, 3] else [f"revision {now}, kept {kept}; 4 and [1, 2, 3] were expected"]
    return [*_failed(found), *wrong, *stage.faults(engines=(0,))]


def built_and_calibrated(stage: Stage, seed: int) -> list[str]:
    """A build and a calibration at once: no engine of the old frames among those of the new revision."""
    stage.without_engines()
    source = _source(stage, seed)
    late_s = random.Random(seed).random() * 1.5

    def builds() -> bool:
        time.sleep(late_s)
        return build(stage.path)

    found = together(seed, [("calibrate", partial(_calibrate, stage, source)), ("build", builds)])
    allowed = {"BuildError", "BundleError", "EngineMismatch"}
    failed = [outcome for outcome in found if outcome.error and not (outcome.role == "build" and outcome.kind in allowed)]
    wrong = []
    for path in (stage.path, *history(stage.path).values()):
        bundle = Bundle.open(path)
        frames = bundle.manifest.calibration.get("digest")
        for record in EngineStore(bundle).list():
            if path == stage.path and record.options["calibration"] != frames:
                wrong.append(f"revision {bundle.manifest.revision} has an engine of other calibration frames")
    return [*_failed(failed), *wrong, *stage.faults(engines=(0, 1))]


SCENARIOS: dict[str, tuple[Scenario, int]] = {
    "8 builders of one engine": (builders, 2),
    "an engine replaced under readers": (engine_replaced, 8),
    "a revision rolled back under readers": (rolled_back, 8),
    "a bundle replaced under readers": (folder_replaced, 8),
    "engines removed and swept under readers": (removed, 8),
    "engines removed while one is stored": (remove_and_build, 4),
    "an engine opened again under load": (reloaded, 4),
    "an engine shared by threads": (shared_by_threads, 4),
    "the holder of the lock killed": (holder_killed, 3),
    "a fork in a thread": (forked_in_a_thread, 4),
    "compiled code kept by several builds": (compiled_kept, 5),
    "two predictions into one folder": (predicted_twice, 3),
    "two calibrations": (calibrated_twice, 1),
    "a build and a calibration": (built_and_calibrated, 2),
}
"""By title: the scenario, and how often it comes among the schedules."""


def _repeat(read: Callable[[], str]) -> Callable[[], list[str]]:
    return lambda: [read() for _ in range(_READS)]


def _readers(count: int, read: Callable[[], str]) -> list[tuple[str, Callable[[], list[str]]]]:
    return [(f"reader {number}", _repeat(read)) for number in range(count)]


def _failed(found: Iterable[Outcome]) -> list[str]:
    return [f"{outcome.role}: {outcome.error}" for outcome in found if outcome.error]


def _answers(found: Sequence[Outcome], allowed: set[str]) -> list[str]:
    """Answers of readers that are of none of the engines that were there."""
    given = [(outcome.role, each) for outcome in found for each in outcome.value or ()]
    return [f"{role}: an answer of no engine that was there" for role, each in given if each not in allowed]


def _open(path: Path) -> Engine:
    return Engine(path, backend="onnxruntime", threads=1)


def _with_key(record: Any, key: str) -> Any:
    return replace(record, key=key)


def _refused(engine: Engine, lazy: Any) -> int:
    """In a forked child: 0 where the engine refuses and what was answered before can be read."""
    try:
        engine.predict(make_image(5, height=SIZE, width=SIZE))
    except EngineClosed:
        engine.close()
        return 0 if lazy.depth is not None else 3
    except BaseException:
        return 4
    return 5


def _code(child: int) -> int:
    """How a forked child ended; one that hangs is killed after a while."""
    end_s = time.monotonic() + 60
    while time.monotonic() < end_s:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _command(*words: str) -> int:
    """Exit code of a command, run in this process, which has nothing to say from then on."""
    from edge_mtl.cli import main

    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    return main(list(words))


def _unreadable(folder: Path) -> list[str]:
    """Result files that are not whole."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    found = [] if files else ["no results were written"]
    for path in files:
        if path.name.startswith(TEMPORARY_PREFIX):
            found.append(f"{path.name} is left among the results")
        elif path.suffix == ".json":
            try:
                json.loads(path.read_bytes())
            except ValueError as exc:
                found.append(f"{path.name} is half a file: {exc}")
        elif path.suffix == ".png" and cv2.imread(str(path), cv2.IMREAD_UNCHANGED) is None:
            found.append(f"{path.name} is half an image")
    return found


def _source(stage: Stage, seed: int) -> Path:
    images = stage.folder.parent / "frames"
    images.mkdir()
    for number in range(12):
        write_image(images / f"{number}.png", make_image(seed % 1000 + number, height=SIZE, width=SIZE))
    return images


def _calibrate(stage: Stage, source: Path) -> int:
    with mock.patch.object(pipeline, "_ROUNDS", 1), mock.patch.object(pipeline, "_BUDGET_S", 0.1):
        done = recalibrate(
            stage.path, folder_source(source), count=4, embedding="colour", budget=None, engines=False, threads=1
        )
    return done.bundle.manifest.revision
