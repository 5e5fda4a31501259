"""Deleting pseudo-labels: exactly the files that are recorded and have not changed since."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from edge_mtl.errors import BuildError
from mtl.pseudo_labels.records import RECORDS, Records, locked

__all__ = ["Removed", "remove_labels"]


@dataclass(frozen=True, slots=True)
class Removed:
    """What became of the recorded labels.

    Attributes:
        deleted: files by task.
        changed: paths that stay because their content is not what was recorded.
    """

    deleted: dict[str, int]
    changed: tuple[Path, ...]


def remove_labels(root: Path, tasks: Collection[str] = ()) -> Removed:
    """Delete the pseudo-labels of a folder; folders and `dataset.toml` stay.

    Args:
        tasks: of which tasks; empty for all.
    Raises:
        BuildError: there is no such folder or no record of these tasks, another run is at work, or a file cannot be deleted.
    """
    if not root.is_dir():
        raise BuildError(f"{root} is not a folder. Name the folder of a data set that has a {RECORDS}")
    with locked(root):
        records = Records.open(root)
        if missing := sorted(set(tasks) - set(records.entries)) if tasks else [] if records.entries else ["any task"]:
            known = ", ".join(records.entries) or "nothing"
            raise BuildError(f"{root / RECORDS} has no pseudo-labels of {', '.join(missing)}; it has those of {known}")
        deleted, changed = {}, []
        try:
            for task in tasks or list(records.entries):
                found = records.entries[task]
                deleted[task] = 0
                for stem, entry in list(found.items()):
                    path = root / entry.file
                    state = records.state(task, stem, path)
                    if state == "changed":
                        changed.append(path)
                        continue
                    if state == "ours":
                        _delete(path)
                        deleted[task] += 1
                    del found[stem]
        finally:
            records.save()
        return Removed(deleted, tuple(changed))


def _delete(path: Path) -> None:
    try:
        path.unlink()
    except OSError as exc:
        raise BuildError(f"{path} cannot be deleted ({exc.strerror or exc}). Mend its permissions and run again") from exc
