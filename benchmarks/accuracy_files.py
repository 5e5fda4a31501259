"""Accuracies of bundles and of external networks, from files that `train/evaluate.py` wrote, or measured as it does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conditions import Conditions
from external_networks import TASK, ExternalNetwork
from nyuv2_frames import open_nyuv2

from edge_mtl.bundle import Bundle
from edge_mtl.errors import BuildError, BundleError
from edge_mtl.files import write_atomic
from edge_mtl.tasks import NYU_TASKS

__all__ = ["Accuracy", "accuracy_of_bundle", "accuracy_of_external", "read_files", "same_frames"]

_EVALUATE = Path(__file__).resolve().parents[1] / "train" / "evaluate.py"
_ALL_FRAMES = 0


@dataclass(frozen=True, slots=True)
class Accuracy:
    """What was measured of one network on test frames.

    Attributes:
        network: its name.
        rows: measures by engine.
        data, frames: which frames, and how many.
        input: (H, W) of the network.
        source: name of the file.
    """

    network: str
    rows: Mapping[str, Mapping[str, Any]]
    data: str
    frames: int
    input: tuple[int, int]
    source: str

    def row(self, engine: str) -> Mapping[str, Any]:
        """Measures of one engine. Raises BundleError: the file has none."""
        if engine not in self.rows:
            raise BundleError(
                f"{self.source} has no accuracy of {self.network} as {engine}, only of {', '.join(self.rows)}. "
                "Measure it again with the engines that are built now: train/evaluate.py BUNDLE --engines --save FILE"
            )
        return self.rows[engine]


def read_files(paths: Sequence[Path]) -> dict[str, Accuracy]:
    """Accuracies by the name of their network: the last part of the path that was measured.

    Raises:
        BundleError: a file that is missing, or is no evaluation of one model on test frames.
    """
    found: dict[str, Accuracy] = {}
    for path in paths:
        one = _read(path)
        if one.network in found:
            raise BundleError(f"{found[one.network].source} and {path.name} are both of {one.network}. Give one of them")
        found[one.network] = one
    return found


def accuracy_of_bundle(name: str, bundle: Bundle, known: Mapping[str, Accuracy], *, nyuv2: Path | None, keep: Path) -> Accuracy:
    """The accuracy of a bundle's engines, from the files that were given or by measuring now.

    Args:
        keep: where an evaluation is written that is made now; one that lies there is taken.
    Raises:
        BundleError: no file has it and there are no frames to measure on, or the file is of another network of that name.
    """
    if name not in known and not keep.exists():
        if nyuv2 is None:
            raise _unknown(name)
        command = [sys.executable, str(_EVALUATE), str(bundle.path), "--engines", "--root", str(nyuv2), "--save", str(keep)]
        if subprocess.run(command, check=False).returncode:
            raise BuildError(f"{name} could not be evaluated; see above")
    found = known[name] if name in known else _read(keep)
    told = bundle.manifest.provenance
    for engine, row in found.rows.items():
        for key, own in (("parameters", told.get("parameters")), ("step", told.get("steps"))):
            if own is not None and row.get(key) not in (None, own):
                raise BundleError(
                    f"{found.source} is of another network than {bundle.path}: {key} {row[key]} as {engine}, expected {own}. "
                    "Measure it again: train/evaluate.py BUNDLE --engines --save FILE"
                )
    return found


def accuracy_of_external(
    name: str,
    network: ExternalNetwork,
    known: Mapping[str, Accuracy],
    *,
    nyuv2: Path | None,
    size: tuple[int, int],
    keep: Path,
) -> Accuracy:
    """The same of an external network.

    Args:
        size: (H, W) at which its labels are compared: that of ours.
    Raises:
        BundleError: no file has it, and there are no frames to measure on.
    """
    if name in known:
        return known[name]
    if not keep.exists():
        if nyuv2 is None:
            raise _unknown(name)
        frames = open_nyuv2(nyuv2, _ALL_FRAMES)
        from mtl.evaluate import evaluate_fully

        conditions = Conditions(threads=os.cpu_count() or 1)
        found = evaluate_fully(network, frames, {TASK: NYU_TASKS[TASK]}, size=size)
        details = {"data": "NYU Depth v2", "split": "test", "frames": found.frames, "size": list(network.size)}
        details |= {"compared_at": list(size), "through": network.runtime, "file": network.path.name, **found.details}
        content = {"models": [name], "split": "test", **conditions.describe()}
        content |= {"metrics": {network.engine: found.measures}, "details": {network.engine: details}}
        write_atomic(keep, (json.dumps(content, indent=2, sort_keys=True) + "\n").encode())
    return _read(keep)


def same_frames(accuracies: Sequence[Accuracy]) -> tuple[str, int]:
    """On which frames, and on how many, all were measured. Raises BundleError: not all on the same."""
    first = accuracies[0]
    for one in accuracies:
        if (one.data, one.frames) != (first.data, first.frames):
            found, expected = (f"{each.source} is of {each.frames} frames of {each.data}" for each in (one, first))
            raise BundleError(f"{found}, {expected}: they cannot be compared. Measure all of them on the same frames")
    return first.data, first.frames


def _unknown(name: str) -> BundleError:
    return BundleError(f"no file has the accuracy of {name}. Give it with --accuracy FILE.json, or the frames with --nyuv2 DIR")


def _read(path: Path) -> Accuracy:
    try:
        content = json.loads(path.read_bytes())
        (model,), metrics, details = content["models"], content["metrics"], list(content["details"].values())
        facts: set[tuple[Any, ...]] = {(str(one["data"]), int(one["frames"]), *map(int, one["size"])) for one in details}
        (data, frames, height, width), split = facts.pop(), content["split"]
        rows = {str(name): dict(row) for name, row in metrics.items()}
    except OSError as exc:
        raise BundleError(
            f"{path} cannot be read ({exc.strerror}). Write it with train/evaluate.py BUNDLE --save FILE"
        ) from exc
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise BundleError(
            f"{path} is not an evaluation of one model ({exc}). Write it with train/evaluate.py BUNDLE --engines --save FILE"
        ) from exc
    if split != "test" or facts:
        raise BundleError(f"{path} is not of test frames of one data set alone. Measure it with --split test")
    return Accuracy(Path(model).name, rows, data, frames, (height, width), path.name)
