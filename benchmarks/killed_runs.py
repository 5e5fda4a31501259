"""A training run killed again and again (SIGKILL, at random moments) and resumed, against one that nothing disturbed.

    python benchmarks/killed_runs.py --kills 20

After every kill the checkpoint, if there is one, has to load; when a run has come to its end, its weights, optimiser and
validation records have to be those of the undisturbed run, bit for bit. When a run ends before all kills are spent, the
next one begins. Exit code 1 and a message say what did not hold.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "train"))

import torch
from mtl.checkpoint import CheckpointError, load_state
from mtl.metric_logger import METRICS
from mtl.run import STATE
from mtl.settings import RunSettings

from tests.tiny_training import forking, make_rooms, quiet, tiny_settings

_STAGES = "[{height=32, width=64, steps=%d, batch=2}, {height=32, width=64, steps=%d, batch=4}]"
_IN_TRAINING = 0.75
"""Share of the kills that wait until training has begun; the others come at any moment, while it is set up too."""
_TIMES = ("time", "images_per_s", "seconds", "data_wait", "losses")
"""What may differ in the records of a run that was interrupted: times, and means that begin again."""


@dataclass(frozen=True, slots=True)
class Survival:
    """What was found.

    Attributes:
        kills: processes killed while they trained; `before_a_checkpoint` of them before the first one was written.
        resumes: processes that began from a checkpoint.
        runs: runs that came to their end and were compared.
        differences: what was not as in the undisturbed run, or did not load.
    """

    kills: int
    before_a_checkpoint: int
    resumes: int
    runs: int
    differences: tuple[str, ...]


def survive(
    root: Path, *, kills: int, steps: int, seed: int = 0, weighting: str = "uncertainty", told: Callable[[str], None] = print
) -> Survival:
    """Kill runs of `steps` steps in `root` until `kills` processes died, and compare what becomes of them."""
    rooms, draws = make_rooms(root / "rooms"), random.Random(seed)
    changes = {"stages": _STAGES % (steps - steps // 2, steps // 2), "losses.weighting": f"'{weighting}'"}
    changes |= {"model.drop_path": "0.1", "loop.checkpoint_s": "0.0", "loop.evaluate_every": "5"}
    context = forking()
    whole = tiny_settings(rooms, root, name="'whole'", **changes)
    _wait(_start(context, whole))  # the first process also waits for everything to be imported
    again = _start(context, tiny_settings(rooms, root, name="'again'", **changes))
    _until_training(again, root / "again" / METRICS)
    began = time.monotonic()
    _wait(again)
    training_s = time.monotonic() - began
    differences = [f"undisturbed, twice: {line}" for line in _differences(root / "whole", root / "again")]
    done = early = resumes = runs = 0
    while done < kills:
        settings = tiny_settings(rooms, root, name=f"'broken-{runs}'", **changes)
        while True:
            resumes += (root / settings.name / STATE).exists()
            process = _start(context, settings)
            if done < kills:
                if draws.random() < _IN_TRAINING:
                    _until_training(process, root / settings.name / METRICS)
                process.join(draws.uniform(0.0, 0.4 * training_s))
            if done >= kills or process.exitcode is not None:
                _wait(process)
                break
            process.kill()
            process.join()
            done += 1
            line, written = _checked(root / settings.name / STATE)
            early += not written
            told(f"kill {done}: {line}")
            if line.startswith("CheckpointError"):
                differences.append(line)
        differences += [f"run {runs}: {line}" for line in _differences(root / "whole", root / settings.name)]
        runs += 1
    return Survival(done, early, resumes, runs, tuple(differences))


def _train(settings: RunSettings) -> None:
    from mtl.run import Run

    Run(settings, console=quiet(), resume=True).train()


def _start(context: ForkServerContext, settings: RunSettings) -> multiprocessing.process.BaseProcess:
    process = context.Process(target=_train, args=(settings,))
    process.start()
    return process


def _until_training(process: multiprocessing.process.BaseProcess, journal: Path) -> None:
    """Wait until a process that was just started has noted that it trains, or has ended."""
    started = time.time_ns()
    while process.exitcode is None and not (journal.exists() and journal.stat().st_mtime_ns >= started):
        process.join(0.002)


def _wait(process: multiprocessing.process.BaseProcess) -> None:
    process.join()
    if process.exitcode:
        raise SystemExit(f"a run that was not killed ended with exit code {process.exitcode}")


def _checked(state: Path) -> tuple[str, bool]:
    """What a kill left, in words, and whether there is a checkpoint."""
    if not state.exists():
        return "no checkpoint yet", False
    try:
        return f"the checkpoint of step {load_state(state)['training']['step']} loads", True
    except CheckpointError as error:
        return f"CheckpointError: {error}", True


def _differences(whole: Path, other: Path) -> list[str]:
    """What two finished runs do not have in common."""
    one, two = (load_state(folder / STATE)["training"] for folder in (whole, other))
    found = [f"{name} differs" for name, same in _compared(one, two, "state") if not same]
    first, second = (_records(folder / METRICS) for folder in (whole, other))
    if first != second:
        found.append(f"{METRICS} differs: {first} and {second}")
    return found


def _compared(one: Any, two: Any, name: str) -> list[tuple[str, bool]]:
    if isinstance(one, Mapping):
        if not isinstance(two, Mapping) or one.keys() != two.keys():
            return [(name, False)]
        return [pair for key in one for pair in _compared(one[key], two[key], f"{name}.{key}")]
    if isinstance(one, (list, tuple)):
        pairs = zip(one, two, strict=True)
        return [pair for index, (a, b) in enumerate(pairs) for pair in _compared(a, b, f"{name}.{index}")]
    return [(name, torch.equal(one, two) if isinstance(one, torch.Tensor) else one == two)]


def _records(path: Path) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in path.read_text().splitlines()]
    kept = (record for record in records if record["kind"] in ("validation", "done"))
    return [{key: value for key, value in record.items() if key not in _TIMES} for record in kept]


def main() -> int:
    """Parse, kill, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="processes to kill (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=24, help="steps of a run (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: %(default)s)")
    parser.add_argument("--weighting", default="uncertainty", help="losses.weighting (default: %(default)s)")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        found = survive(Path(root), kills=asked.kills, steps=asked.steps, seed=asked.seed, weighting=asked.weighting)
    print(json.dumps(asdict(found), indent=2))
    return 1 if found.differences else 0


if __name__ == "__main__":
    sys.exit(main())
