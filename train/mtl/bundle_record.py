"""Figures of held-out frames as a record in a bundle: where images may not travel, accuracy and the way to repeat it do.

Knows what was measured and the manifest's entry; measures nothing.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from edge_mtl.bundle import Bundle
from edge_mtl.engine_store.revision import changing, commit, copy_engines
from edge_mtl.errors import BundleError
from mtl.bundle_card import figures
from mtl.study.columns import DELTA_M, EPOCH, PARAMETERS, STEP

__all__ = ["RECORD_OPTION", "describe_record", "put_record"]

RECORD_OPTION = "--record"
_FLAGS, _WITH_A_PLACE = {RECORD_OPTION, "--json"}, {"--out", "--save"}
"""Options of `train/evaluate.py` that change no figure."""
_ABOUT = {"data", "split", "frames", "size", "through", "truths", "near_chance"}
"""Details that are of the measurement; the others are figures."""


def describe_record(
    metrics: Mapping[str, Mapping[str, float | None]],
    details: Mapping[str, Mapping[str, Any]],
    *,
    pseudo: Collection[str],
    conditions: Mapping[str, Any],
    calibration: str | None,
) -> tuple[str, dict[str, Any]]:
    """The name of the frames, and the entry of `Manifest.measurements`.

    Args:
        metrics, details: of every graph of one bundle on the same frames, as `train/evaluate.py` has them.
        pseudo: keys of metrics that compare with a computed truth.
        conditions: of the measurement, see `edge_mtl.bench.conditions`.
        calibration: digest of the calibration that the bundle has, which INT8 follows from.
    """
    about = next(iter(details.values()))
    graphs = {
        name: figures(
            {key: value for key, value in values.items() if key not in (STEP, EPOCH, PARAMETERS, DELTA_M)}
            | {key: value for key, value in details[name].items() if key not in _ABOUT}
        )
        for name, values in metrics.items()
    }
    record = {
        "frames": about["frames"],
        "size": about["size"],
        "truths": about["truths"],
        "pseudo": sorted(pseudo),
        "graphs": graphs,
        "through": {name: row["through"] for name, row in details.items()},
        "command": _without_places(conditions["command"]),
        "date": conditions["date"],
        "commit": conditions["commit"],
        "device": conditions["device"]["description"],
        "versions": conditions["versions"],
        "calibration": calibration,
    }
    return f"{about['data']}, {about['split']} split", record


def _without_places(command: str) -> str:
    """The command that measures the same, without where its results went: such paths are of the machine that it ran on."""
    kept, words = [], iter(shlex.split(command))
    for word in words:
        if word in _WITH_A_PLACE:
            next(words, None)
        elif word not in _FLAGS and word.partition("=")[0] not in _WITH_A_PLACE:
            kept.append(word)
    return shlex.join(kept)


def put_record(bundle: Bundle, name: str, record: Mapping[str, Any]) -> Bundle:
    """Put a record into the bundle as a new revision, in place of one of the same frames; engines come along.

    Args:
        bundle: as it was opened before it was measured.
    Raises:
        BundleError: the folder cannot be written, or the bundle was changed since it was opened.
    """
    with changing(Path(bundle.path)) as current:
        if current.digest != bundle.digest:
            raise BundleError(f"{bundle.path} was changed while it was measured. Run the command again.")
        measurements = {**current.manifest.measurements, name: record}
        return commit(current, lambda folder: copy_engines(current, folder), measurements=measurements)
