"""Looks at every file of an NYUv2 folder and says what is wrong with it. Changes nothing; knows nothing about printing."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from edge_mtl.tasks import NYU13_CLASSES, NYU_TASKS, VOID
from mtl.datasets.nyuv2.arrays import depth_array, image_array, label_array, load_array, normal_array
from mtl.datasets.nyuv2.axes import NormalAxes
from mtl.datasets.nyuv2.frames import detect_folder_axes
from mtl.datasets.nyuv2.layout import (
    FRAMES,
    MODALITIES,
    PARTS,
    DatasetError,
    DatasetMissing,
    Part,
    frame_path,
    missing_message,
    read_description,
)
from mtl.datasets.report import Check, Progress, Report

__all__ = ["Check", "Report", "inspect"]

Array = np.ndarray
_FEWEST_UNIT = 0.999
_UNIT_TOLERANCE = 0.02


@dataclass(slots=True)
class Tally:
    """What was seen of one modality."""

    dtypes: Counter[str] = field(default_factory=Counter)
    shapes: Counter[tuple[int, ...]] = field(default_factory=Counter)
    low: float = math.inf
    high: float = -math.inf
    values: int = 0
    invalid: int = 0
    not_finite: int = 0
    not_unit: int = 0
    degrees_lost: float = 0.0
    classes: Array = field(default_factory=lambda: np.zeros(256, np.int64))
    files: int = 0
    problems: list[str] = field(default_factory=list)


def inspect(root: Path, *, progress: Progress | None = None) -> Report:
    """Read every array of a folder and compare it with what it should be.

    Raises:
        DatasetMissing: there is no such folder.
    """
    if not root.is_dir():
        raise DatasetMissing(missing_message(root, "no such folder"))
    numbers, counting = _count(root)
    tallies = {modality: Tally() for modality in MODALITIES}
    total, done = sum(len(found) for found in numbers.values()), 0
    for (part, modality), found in numbers.items():
        for index in sorted(found):
            _look(frame_path(root, part, modality, index), modality, tallies[modality])
            done += 1
            if progress is not None:
                progress(f"{part}/{modality}", done, total)
    sizes = {shape[:2] for tally in tallies.values() for shape in tally.shapes}
    same = Check("size", ", ".join("x".join(map(str, one)) for one in sorted(sizes)) or "none", _one_size(tallies))
    described = _description(root)
    return Report(str(root), (counting, same, *(_summary(*item) for item in tallies.items()), _axes(root, numbers), described))


def _count(root: Path) -> tuple[dict[tuple[Part, str], set[int]], Check]:
    numbers: dict[tuple[Part, str], set[int]] = {}
    problems, strange = [], []
    for part in PARTS:
        for modality in MODALITIES:
            files = [path for path in (root / part / modality).glob("*") if path.is_file()]
            numbers[part, modality] = {int(path.stem) for path in files if path.suffix == ".npy" and path.stem.isdigit()}
            strange += [path for path in files if path.suffix != ".npy" or not path.stem.isdigit()]
        count = max((max(numbers[part, modality], default=-1) for modality in MODALITIES), default=-1) + 1
        if count == 0:
            problems.append(f"{root / part} holds no frames")
        for modality in MODALITIES:
            absent = [index for index in range(count) if index not in numbers[part, modality]]
            if absent:
                first = frame_path(root, part, modality, absent[0])
                problems.append(f"{len(absent)} of {count} files are missing in {part}/{modality}: {first}, ...")
    counts = {part: len(numbers[part, "image"]) for part in PARTS}
    notes = [f"the official split has {FRAMES[part]} in {part}" for part in PARTS if counts[part] != FRAMES[part]]
    if strange:
        notes.append(f"{len(strange)} other files, such as {strange[0]}")
    return numbers, Check("frames", ", ".join(f"{part} {counts[part]}" for part in PARTS), tuple(problems), "; ".join(notes))


def _look(path: Path, modality: str, tally: Tally) -> None:
    """Read one file into the tally of its modality."""
    try:
        stored = load_array(path)
        tally.files += 1
        tally.dtypes[str(stored.dtype)] += 1
        tally.shapes[stored.shape] += 1
        _LOOKS[modality](stored, str(path), tally)
    except DatasetError as exc:
        tally.problems.append(str(exc))


def _look_at_image(stored: Array, where: str, tally: Tally) -> None:
    image_array(stored, where=where)
    tally.low, tally.high = min(tally.low, float(stored.min())), max(tally.high, float(stored.max()))


def _look_at_label(stored: Array, where: str, tally: Tally) -> None:
    tally.classes += np.bincount(label_array(stored, where=where).ravel(), minlength=256)


def _look_at_depth(stored: Array, where: str, tally: Tally) -> None:
    _look_for_nan(stored, where, tally)
    depth = depth_array(stored, where=where)
    tally.values += depth.size
    tally.invalid += int((depth == 0).sum())
    known = depth[depth > 0]
    if known.size:
        tally.low, tally.high = min(tally.low, float(known.min())), max(tally.high, float(known.max()))
    else:
        tally.problems.append(f"{where}: no valid depth")


def _look_at_normal(stored: Array, where: str, tally: Tally) -> None:
    _look_for_nan(stored, where, tally)
    normals = normal_array(stored, where=where)
    length = np.linalg.norm(np.nan_to_num(np.asarray(stored, np.float32), posinf=0, neginf=0), axis=-1)
    valid = (normals != 0).any(axis=-1)
    tally.values += valid.size
    tally.invalid += int((~valid).sum())
    tally.not_unit += int((np.abs(length[valid] - 1) > _UNIT_TOLERANCE).sum())
    tally.degrees_lost += float(np.degrees(np.arccos(length[valid].clip(0, 1))).sum())
    if not valid.any():
        tally.problems.append(f"{where}: no valid normals")


def _look_for_nan(stored: Array, where: str, tally: Tally) -> None:
    count = int((~np.isfinite(stored)).sum()) if stored.dtype.kind == "f" else 0
    tally.not_finite += count
    if count:
        tally.problems.append(f"{where}: {count} values are NaN or infinite (training takes them as invalid)")


_LOOKS = {"image": _look_at_image, "label": _look_at_label, "depth": _look_at_depth, "normal": _look_at_normal}


def _summary(modality: str, tally: Tally) -> Check:
    """What was seen of a modality, as one check."""
    dtypes = "/".join(sorted(tally.dtypes)) or "nothing"
    valid = max(1, tally.values - tally.invalid)
    invalid = f"{tally.invalid / max(1, tally.values):.1%} invalid"
    found, note = dtypes, ""
    if modality == "image" and math.isfinite(tally.high):
        found += f", {tally.low:.3g} to {tally.high:.3g}"
    elif modality == "label":
        seen, total = tally.classes[: len(NYU13_CLASSES)], max(1, int(tally.classes.sum()))
        found += f", {int((seen > 0).sum())} of {len(NYU13_CLASSES)} classes, {tally.classes[VOID] / total:.1%} void"
        absent = [name for name, count in zip(NYU13_CLASSES, seen, strict=True) if count == 0]
        note = f"absent: {', '.join(absent)}" if absent else ""
    elif modality == "depth" and math.isfinite(tally.high):
        found += f", {tally.low:.2f} to {tally.high:.2f} m, {invalid}"
    elif modality == "normal":
        unit = 1 - tally.not_unit / valid
        found += f", {unit:.1%} of unit length, {invalid}"
        if unit < _FEWEST_UNIT:
            # acos of the length: what a perfect prediction would be charged by a metric that does not normalise the truth
            lost = tally.degrees_lost / valid
            note = f"training normalises them; LibMTL's metric does not, and adds about {lost:.2f} degrees to the mean"
    return Check(modality, found, tuple(tally.problems), note)


def _one_size(tallies: dict[str, Tally]) -> tuple[str, ...]:
    sizes: Counter[tuple[int, ...]] = Counter()
    for tally in tallies.values():
        for shape, count in tally.shapes.items():
            sizes[shape[:2]] += count
    if len(sizes) <= 1:
        return ()
    listed = ", ".join(f"{count} of {'x'.join(map(str, size))}" for size, count in sizes.most_common())
    return (f"arrays differ in size: {listed}",)


def _axes(root: Path, numbers: dict[tuple[Part, str], set[int]]) -> Check:
    """Detect the axes of the normals again and compare them with what is written down."""
    count = len(numbers["train", "normal"] & numbers["train", "depth"])
    try:
        described = read_description(root)
    except DatasetError as exc:
        return Check("normal axes", "unknown", (str(exc),))
    try:
        found = detect_folder_axes(root, "train", count)
    except DatasetError as exc:
        if described is not None and "stated" in described.evidence:
            return Check("normal axes", f"{described.axes}, as stated", note=f"not confirmed: {exc}")
        return Check("normal axes", "unknown", (str(exc),))
    text = f"{found.axes}, mean cosine {found.cosine:.3f} (next {found.runner_up}: {found.runner_up_cosine:.3f})"
    if described is not None and NormalAxes.parse(described.axes) != found.axes:
        wrong = f"dataset.json says {described.axes}, the files agree with {found.axes}. Remove dataset.json: it is made again"
        return Check("normal axes", text, (wrong,))
    return Check("normal axes", text)


def _description(root: Path) -> Check:
    try:
        described = read_description(root)
    except DatasetError as exc:
        return Check("dataset.json", "unreadable", (str(exc),))
    if described is None:
        return Check("dataset.json", "none yet: it is made when the folder is first used")
    problems = () if described.complete else ("the conversion was not finished: run the same command again",)
    made = [str(described.source[name]) for name in ("kind", "labels", *NYU_TASKS) if name in described.source]
    return Check("dataset.json", f"made of: {'; '.join(made) or 'unknown'}", problems)
