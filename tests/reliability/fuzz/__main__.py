"""The four fuzz gates: mutants of everything that is read from outside.

python -m tests.reliability.fuzz [--minutes M] [--mutants N] [--targets a,b] [--gate G] [--seed S] [--out FOLDER]
python -m tests.reliability.fuzz --repeat FILE --target NAME

Runs add up: the corpus that coverage found lasts in FOLDER/corpus, finds in FOLDER/finds, and each run writes a record of
each gate to FOLDER/reliability-GATE.json.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tests.reliability.fuzz.driver import Outcome, fuzz, has_atheris, replay
from tests.reliability.fuzz.target import Target
from tests.reliability.fuzz.targets import all_targets
from tests.reliability.fuzz.worker import FAULTS
from tests.reliability.gates import GATES
from tests.reliability.record import GateRun

__all__ = ["controls", "main"]

Chosen = dict[str, tuple[str, Target]]
_CONTROL_WATCHDOG_S = 1.5


def main(arguments: list[str] | None = None) -> int:
    """The exit code: 0 where every gate that was run holds."""
    parser = argparse.ArgumentParser(prog="python -m tests.reliability.fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30.0, help="of all targets together, shared equally (30)")
    parser.add_argument("--mutants", type=int, default=1 << 40, help="of each target, at most")
    parser.add_argument("--targets", default="", help="names with commas between; all by default")
    parser.add_argument("--gate", choices=[name for name in GATES if name.startswith("fuzz-")], help="targets of one gate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="targets at the same time (1)")
    parser.add_argument("--unguided", action="store_true", help="mutate without coverage: starts at once, finds less")
    parser.add_argument("--out", type=Path, default=Path("out/fuzz"))
    parser.add_argument("--repeat", type=Path, metavar="FILE", help="read one file, as kept in FOLDER/finds, again")
    parser.add_argument("--target", help="that reads FILE")
    given = parser.parse_args(arguments)
    targets = all_targets()
    if given.repeat is not None:
        if given.target not in targets:
            parser.error(f"--target is one of {', '.join(targets)}")
        return _repeat(given.repeat, *targets[given.target])
    names = list(filter(None, given.targets.split(","))) or list(targets)
    if unknown := [name for name in names if name not in targets]:
        parser.error(f"no target {', '.join(unknown)}; there are {', '.join(targets)}")
    chosen = {name: targets[name] for name in names if given.gate in (None, targets[name][1].gate)}
    if not chosen:
        parser.error("no target is left")
    runs = {gate: GateRun(gate) for gate in GATES if any(target.gate == gate for _, target in chosen.values())}
    _run(chosen, runs, given)
    codes = [run.finish(given.out / f"reliability-{gate}.json") for gate, run in runs.items()]
    return max(codes)


def _run(chosen: Chosen, runs: dict[str, GateRun], given: argparse.Namespace) -> None:
    seconds = 60.0 * given.minutes * given.jobs / len(chosen)
    with _progress() as shown, ThreadPoolExecutor(given.jobs) as pool:
        ended = {}
        for name, (module, target) in chosen.items():
            row = shown.add_task(name, total=given.mutants if given.mutants < 1 << 40 else None, finds=0, start=False)

            def work(name: str = name, module: str = module, target: Target = target, row: object = row) -> Outcome:
                shown.start_task(row)  # type: ignore[arg-type]

                def tell(mutants: int, finds: int) -> None:
                    shown.update(row, completed=mutants, finds=finds)  # type: ignore[arg-type]

                outcome = fuzz(
                    module,
                    target,
                    given.out,
                    seconds=seconds,
                    mutants=given.mutants,
                    seed=given.seed,
                    guided=not given.unguided,
                    progress=tell,
                )
                shown.stop_task(row)  # type: ignore[arg-type]
                return outcome

            ended[name] = pool.submit(work)
        for name, future in ended.items():
            _enter(runs[chosen[name][1].gate], name, future.result(), given.out)
    for gate, run in runs.items():
        for module, target in chosen.values():
            if target.gate == gate and controls(module, target, run):
                break
    if given.unguided:
        for run in runs.values():
            run.note("a run with --unguided starts from what guided runs kept, and is not guided by coverage itself")
    if not has_atheris():
        for run in runs.values():
            run.note("atheris is not here: mutations were not guided by coverage")


def _enter(run: GateRun, name: str, outcome: Outcome, out: Path) -> None:
    """Into the record."""
    if outcome.unavailable:
        run.note(f"{name}: {outcome.unavailable}")
        return
    run.count("targets")
    run.count("mutants", outcome.mutants)
    run.count("refused", outcome.refused)
    for note in outcome.notes:
        run.note(note)
    for fault, path in outcome.finds.items():
        run.violation(f"{name}: {fault}; python -m tests.reliability.fuzz --target {name} --repeat {path}")


def controls(module: str, target: Target, run: GateRun) -> bool:
    """Put each fault into `target` and enter what is seen of it. False where the target cannot be opened here."""
    with tempfile.TemporaryDirectory() as out:
        for fault in FAULTS:
            place = Path(out) / fault
            limits = {"seconds": 120.0, "mutants": 1000, "watchdog_s": _CONTROL_WATCHDOG_S}
            outcome = fuzz(module, target, place, fault=fault, first=True, guided=False, **limits)
            if outcome.unavailable:
                return False
            word = {"abort": "SIGABRT"}.get(fault, fault)
            seen = next((each for each in outcome.finds if each.startswith(word)), "")
            run.control(f"{fault} in the reader of {target.name}", seen)
    return True


def _repeat(path: Path, module: str, target: Target) -> int:
    found = replay(module, target, [path])
    print(found.get(path, "read, or refused by an EdgeMtlError"))
    return 1 if found else 0


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(20),
        MofNCompleteColumn(),
        TextColumn("{task.fields[finds]} finds"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
    )


if __name__ == "__main__":
    sys.exit(main())
