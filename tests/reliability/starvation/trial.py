"""One command under one condition: run as a process, judged by its exit code, its words, its results and what it left."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tests.reliability.starvation.conditions import Condition, as_user
from tests.reliability.trials import (
    COMMANDS,
    Command,
    Found,
    Normal,
    alike,
    environment,
    faults,
    patience,
    prepare,
    run,
    snapshot,
)

__all__ = ["Site", "site"]

_FUTURE_S = 400 * 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Site:
    """Where a command's trials run, always the same folder; what undisturbed runs make of it, and print."""

    command: Command
    template: Path
    folder: Path
    normal: Normal
    printed: str

    def fresh(self, condition: Condition) -> None:
        """Put the template's content into the folder, for the condition's user."""
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self.template, self.folder, symlinks=True)
        if condition.user is not None:
            self._owned_by(condition.user, condition.user)
        if condition.name == "files of the future":
            then = time.time() + _FUTURE_S
            for path in self.folder.rglob("*"):
                os.utime(path, (then, then))

    def tried(self, condition: Condition) -> tuple[Found, list[str]]:
        """Run it under a condition: what was found, and what must not be."""
        self.fresh(condition)
        found = self._run(condition)
        if condition.user is not None:
            self._owned_by(os.geteuid(), os.getegid())  # else what is there is a stranger's to whoever judges it
        normal = replace(self.normal, steady=frozenset()) if condition.elsewhere else self.normal
        said = faults(self.command, normal, found, self.folder, may_leave=lambda name: _may_leave(condition, found, name))
        if condition.elsewhere:
            said = [text for text in said if "cannot be used: it was built on" not in text]
        if condition.silent and found.code not in (0, None, -6, -11):
            said = [text for text in said if not text.endswith(("nothing said", ": nothing said"))]
        if condition.kills and found.code in (-9, 137):
            said = [text for text in said if not text.startswith("ended by signal 9")]
        if condition.works and found.code != 0:
            said.append(f"it should work: {found.code} {found.err.strip()[-300:]}")
        if found.code == 0 and self.command.program == "script" and self.printed != found.out.strip() and found.out:
            said.append(f"another answer: {found.out.strip()[:100]}, not {self.printed[:100]}")
        return found, said

    def _owned_by(self, user: int, group: int) -> None:
        for path in (self.folder, *self.folder.rglob("*")):
            os.lchown(path, user, group)

    def _run(self, condition: Condition) -> Found:
        variables = environment(self.folder)
        for name, value in condition.variables.items():
            if value is None:
                variables.pop(name, None)
            else:
                variables[name] = value.format(folder=self.folder)
        options: dict[str, object] = {"env": variables, "preexec_fn": condition.first}
        prefix = (*as_user(condition.user), *condition.prefix)
        limit = patience(self.normal.seconds)
        code, out, err = run(self.command, self.folder, timeout_s=limit, prefix=prefix, **options)
        return Found(code, out, err, snapshot(self.folder))

    def works_again(self) -> list[str]:
        """What is wrong with a run after it, undisturbed, in what it left."""
        code, _, err = run(self.command.second, self.folder, timeout_s=patience(self.normal.seconds))
        if self.command.once or code in (0, *self.command.refuses):
            return []
        return [f"the next run fails: {code} {err.strip()[-200:]}"]


def _may_leave(condition: Condition, found: Found, name: str) -> bool:
    """Caches of other programs, and what a killed process left."""
    return (condition.kills and found.code in (-9, 137)) or name.startswith(("home/", "cache/", "tmp/"))


@contextmanager
def site(name: str) -> Iterator[Site]:
    """The trials of a command, prepared by two undisturbed runs."""
    command = COMMANDS[name]
    with tempfile.TemporaryDirectory(prefix="starved-") as place:
        os.chmod(place, 0o777)
        folder, template = Path(place) / "trial", Path(place) / "template"
        prepare(command, folder)
        before = snapshot(folder)
        shutil.copytree(folder, template, symlinks=True)
        first = run(command, folder)
        once = snapshot(folder)
        shutil.rmtree(folder)
        shutil.copytree(template, folder, symlinks=True)
        time.sleep(1.1)  # files that state when they were made, in seconds, are not what two runs make alike
        began = time.monotonic()
        second = run(command, folder)
        seconds = time.monotonic() - began
        if first[0] or second[0]:
            raise RuntimeError(f"{name} failed undisturbed: {first[2]}{second[2]}")
        after = snapshot(folder)
        yield Site(command, template, folder, Normal(before, after, alike(once, after), seconds), second[1].strip())
