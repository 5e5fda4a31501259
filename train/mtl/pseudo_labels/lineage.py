"""What a data set says of its pseudo-labels, for the provenance of what is trained on them."""

from __future__ import annotations

from typing import Any

from mtl.datasets.folder.index import FolderIndex
from mtl.pseudo_labels.records import Records

__all__ = ["lineage"]


def lineage(index: FolderIndex) -> dict[str, Any]:
    """Which bundles labelled how many frames of a folder; empty where no label in use is a pseudo-label.

    Returns:
        "bundles": names with the start of their digests. "frames": by task, labelled by them and unchanged since.
        "held_out": by task, those among them that are in val or test: what is measured there is agreement.
    Raises:
        BuildError: the records of the folder cannot be read.
    """
    records = Records.open(index.description.root)
    outside = {*index.assigned.stems["val"], *index.assigned.stems["test"]}
    bundles: set[str] = set()
    frames: dict[str, int] = {}
    held_out: dict[str, int] = {}
    for task, labels in index.labels.items():
        for stem, entry in records.entries.get(task, {}).items():
            path = labels.get(stem)
            if path is None or records.state(task, stem, path) != "ours":
                continue
            run = records.runs[entry.run]
            bundles.add(f"{run.bundle} ({run.digest[:12]})")
            frames[task] = frames.get(task, 0) + 1
            if stem in outside:
                held_out[task] = held_out.get(task, 0) + 1
    return {"bundles": sorted(bundles), "frames": frames, "held_out": held_out} if frames else {}
