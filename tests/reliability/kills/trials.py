"""A command that is killed over and over: what is left is judged, the command is started again, and judged again.

What lay there before is compared with what lies there afterwards, and with runs that nobody disturbed. Where a kill changed
nothing at all, the next start is a first start, which was seen already, and is left out.
"""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerContext
from pathlib import Path

from tests.reliability.kills.child import Child, environment
from tests.reliability.kills.commands import Command, prepared, work
from tests.reliability.kills.oracle import Tree, held_locks, leftovers, read_tree, shape, torn
from tests.reliability.kills.steps import Step, chosen, read_steps, struck, tracing

__all__ = ["Outcome", "Trials"]

_OLD, _NEW = 1, 2
_LOCK_S = 5.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one kill.

    Attributes:
        killed: false where the command had ended before.
        begun: whether anything was changed by then.
        restarted: whether it was started again.
        left: unfinished files and folders that the next start had to sweep.
        problems: what must not be.
        step: kind of the step at which it died, where strace killed it.
    """

    killed: bool
    begun: bool = False
    restarted: bool = False
    left: int = 0
    problems: tuple[str, ...] = ()
    step: str = ""


@dataclass(slots=True)
class _Start:
    """What lies in the folder when a command is started, and what undisturbed runs make of it."""

    name: str
    folder: Path
    before: Tree
    known: Mapping[str, set[str]] = field(default_factory=dict)
    shapes: list[Counter[str]] = field(default_factory=list)
    kept: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0


class Trials:
    """Trials of one command below `root`.

    Args:
        context: where processes come from.
        faults: put into the run that is killed, and into the next start, by name in `commands.FAULTS`; for controls.
    """

    def __init__(self, context: ForkServerContext, root: Path, command: Command, *, faults: tuple[str, str] = ("", "")) -> None:
        self.command, self._context, self._faults = command, context, faults
        self._root = root / command.name
        self._scratch = self._root / "scratch"
        self._dirty = True
        self._fine: set[str] = set()
        self._root.mkdir(parents=True)
        os.environ.update(environment(self._scratch))  # what is judged here finds compiled code where commands put it
        self._starts = [self._start("nothing there")]
        if command.over:
            self._starts.append(self._start("an older one there"))
        for start in self._starts:
            self._undisturbed(start)

    @property
    def seconds(self) -> float:
        """How long a run takes that nobody disturbs."""
        return max(start.seconds for start in self._starts)

    def at_random(self, draw: Callable[[float], float], number: int) -> Outcome:
        """Kill a run at the moment that `draw` chooses of its seconds; even and odd numbers start from different folders."""
        start = self._starts[number % len(self._starts)]

        def kill(child: Child) -> int:
            child.go()
            waits = self.command.begun and number % 4
            while waits and not (self._scratch / self.command.begun).exists() and child.ended(0.005) is None:
                pass  # `ended` waits
            code = child.ended(draw(start.seconds / 2 if waits else start.seconds))
            if code == 0:
                start.seconds = 0.9 * start.seconds + 0.1 * (time.monotonic() - child.began_s)
            return child.kill() if code is None else code

        return self._trial(start, kill)

    def steps(self) -> list[Step]:
        """The steps to strike, of a run that replaces an older artefact where there can be one."""
        self._reset(self._starts[-1])
        child, log = self._child(self._faults[0]), self._root / "trace"
        tracer = tracing(child.pid, log)
        child.go()
        child.ended()
        tracer.communicate()
        self._dirty = True
        return chosen(read_steps(log, self._scratch))

    def at_step(self, step: Step) -> Outcome:
        """Kill a run at one of its steps."""
        log = self._root / "trace"

        def kill(child: Child) -> int:
            tracer = tracing(child.pid, log, step)
            child.go()
            child.ended()
            code = child.kill()
            tracer.communicate()
            return code

        found = self._trial(self._starts[-1], kill)
        where = (struck(log, self._scratch) or step.kind) if found.killed else ""
        problems = tuple(f"at {where}: {problem}" for problem in found.problems)
        return Outcome(found.killed, found.begun, found.restarted, found.left, problems, where)

    def _start(self, name: str) -> _Start:
        folder = self._root / name.replace(" ", "-")
        if name == "nothing there":
            self._scratch.mkdir()
            self._finish(Child(self._context, prepared, self._scratch, self.command.name))
        else:
            self._finish(self._child("", _OLD))
        shutil.copytree(self._scratch, folder, symlinks=True)
        return _Start(name, folder, read_tree(folder))

    def _undisturbed(self, start: _Start) -> None:
        """What a run makes of it, and a second run after that: all that a kill and a next start may lead to."""
        self._reset(start)
        known: dict[str, set[str]] = defaultdict(set)
        trees = [start.before]
        for number in range(2):
            child = self._child("")
            self._finish(child, refuses=number > 0)
            start.seconds = start.seconds or time.monotonic() - child.began_s
            trees.append(read_tree(self._scratch))
            start.shapes.append(shape(trees[-1]))
        for tree in trees:
            for name, digest in tree.items():
                known[name].add(digest)
        start.known = known
        start.kept = {name: digest for name, digest in start.before.items() if all(tree.get(name) == digest for tree in trees)}
        if problems := [*self._judge(start, trees[-1]), *leftovers(self._scratch)]:
            raise AssertionError(f"{self.command.name}, undisturbed: {'; '.join(problems)}")

    def _finish(self, child: Child, *, refuses: bool = False) -> None:
        child.go()
        code = child.ended()
        if code != 0 and not (refuses and code in self.command.refuses):
            raise AssertionError(f"{self.command.name}, undisturbed, ended with {code}: {child.said()}")
        self._dirty = True

    def _child(self, fault: str, version: int = _NEW) -> Child:
        return Child(self._context, work, self._scratch, self.command.name, version, fault)

    def _reset(self, start: _Start) -> None:
        if self._dirty:
            shutil.rmtree(self._scratch, ignore_errors=True)
            shutil.copytree(start.folder, self._scratch, symlinks=True)
        self._dirty = len(self._starts) > 1  # they take turns

    def _trial(self, start: _Start, kill: Callable[[Child], int]) -> Outcome:
        self._reset(start)
        code = kill(self._child(self._faults[0]))
        if code != -9:
            self._dirty = True
            fine = code == 0 or code in self.command.refuses
            return Outcome(False, problems=() if fine else (f"ended with {code} before it was killed",))
        tree, left = read_tree(self._scratch), leftovers(self._scratch)
        if tree == start.before and not left:
            return Outcome(True, problems=tuple(self._locks()))
        self._dirty = True
        problems = [f"killed: {problem}" for problem in (*self._locks(), *self._judge(start, tree))]
        again = self._child(self._faults[1])
        again.go()
        code = again.ended()
        if code is None or (code and code not in self.command.refuses):
            problems.append(f"the next start ended with {code}: {again.said()}")
        tree = read_tree(self._scratch)
        problems += [f"after the next start: {problem}" for problem in self._judge(start, tree)]
        problems += [f"left after the next start: {name}" for name in leftovers(self._scratch)]
        if (found := shape(tree)) not in start.shapes:
            more, less = dict(found - start.shapes[0]), dict(start.shapes[0] - found)
            problems.append(f"after the next start: {more} is there and {less} is not, other than after an undisturbed run")
        return Outcome(True, True, True, len(left), tuple(dict.fromkeys(problems)))

    def _locks(self) -> list[str]:
        end_s = time.monotonic() + _LOCK_S
        while (held := held_locks(self._scratch)) and time.monotonic() < end_s:
            time.sleep(0.05)  # the kernel is still taking its processes down
        return [f"{name} is held" for name in held]

    def _judge(self, start: _Start, tree: Tree) -> list[str]:
        changed = [f"{name} changed, and no run touches it" for name, digest in start.kept.items() if tree.get(name) != digest]
        names = set().union(*start.shapes, shape(start.before))
        strange = [f"{name}: no run writes such a file" for name in tree if not set(shape({name: ""})) <= names]
        return [*changed, *strange, *torn(self._scratch, tree, start.known, self._fine)]
