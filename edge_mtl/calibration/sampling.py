"""Choosing calibration frames: those that cover a source best, not the first or random ones.

Knows looks, distances and thresholds; sources and embeddings are elsewhere. Useless frames (black, without contrast,
blurred, nearly the same as one before) are dropped and named; of the rest, every next frame is the one farthest from those
already chosen. That is Gonzalez 1985, "Clustering to minimize the maximum intercluster distance": no other choice of as
many frames can cover more than twice as closely.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np

from edge_mtl.bundle import CALIBRATION, OPTIMIZED_ONNX, Bundle
from edge_mtl.calibration.frame_features import (
    BLURRED,
    Embedder,
    Look,
    LookCache,
    colour_and_gradient,
    look,
    network_embedder,
    unreadable,
)
from edge_mtl.calibration.leakage import NEAR, held_out, leakage_error
from edge_mtl.engine_store.engines import cache_folder
from edge_mtl.errors import BuildError, CalibrationError, FrameError
from edge_mtl.files import sha256_bytes
from edge_mtl.image.frames import check_frame, letterbox_image
from edge_mtl.sources.frame_source import FrameSource
from edge_mtl.sources.images import decode_image

__all__ = ["Chosen", "Dropped", "Embedding", "choose_frames", "encode_frames", "farthest_first"]

Array = np.ndarray
Embedding = Literal["network", "colour"]
Progress = Callable[[str, int, int], None]
"""Called with the step ("look", "read"), frames done and in all (0 where nobody knows)."""

_JPEG_QUALITY = 95


@dataclass(frozen=True, slots=True)
class Dropped:
    """A frame that was not used, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Chosen:
    """Calibration frames and where they come from.

    Attributes:
        frames: (H, W, 3) uint8 RGB of the network's size, in the order of the source.
        names: of the frames, in the same order.
        source, kind: what they were chosen from.
        considered: how many frames there were.
        dropped: frames that are of no use.
        embedding, seed: how they were chosen.
        reach: the largest distance from any usable frame to the nearest chosen one, in units of the spread.
        spare: names of usable frames that were not chosen, in order: to judge the result on.
    """

    frames: tuple[Array, ...]
    names: tuple[str, ...]
    source: str
    kind: str
    considered: int
    dropped: tuple[Dropped, ...]
    embedding: str
    seed: int
    reach: float
    spare: tuple[str, ...]

    def facts(self) -> dict[str, Any]:
        """What the manifest says about the choice, besides count and digest."""
        reasons: dict[str, int] = {}
        for entry in self.dropped:
            kind = entry.reason.partition(":")[0].partition(" of ")[0]
            reasons[kind] = reasons.get(kind, 0) + 1
        return {
            "source": self.source,
            "kind": self.kind,
            "considered": self.considered,
            "dropped": reasons,
            "method": f"farthest first by {self.embedding}",
            "seed": self.seed,
            "names": list(self.names),
        }


def choose_frames(
    source: FrameSource,
    bundle: Bundle,
    *,
    count: int = 32,
    seed: int = 0,
    embedding: Embedding = "network",
    unreadable_share: float = 0.05,
    spare: int = 0,
    cache: Path | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> tuple[Chosen, tuple[Array, ...]]:
    """Choose `count` frames of `source` to calibrate `bundle` with, and `spare` others to judge the result on.

    Looks are cached as they are made, so that a long recording that was interrupted continues where it stopped.

    Args:
        seed: decides on the first frame; the others follow.
        embedding: what distance means: "network" asks the bundle's own network, "colour" only pixels, which is faster.
        unreadable_share: how many frames may be unreadable, 0..1.
        spare: chosen last, by the same rule, and left out of the calibration; never more than a quarter of what is usable.
        cache: folder for looks; the user's cache by default.
        threads: of ONNX Runtime.
    Returns:
        The choice, and the spare frames.
    Raises:
        CalibrationError: no usable frame, too many unreadable ones, or frames that `bundle` is measured on.
        BackendUnavailable: embedding by network, and onnx or ONNX Runtime is missing.
        BuildError: the cache cannot be written.
    """
    if count < 1 or spare < 0:
        raise ValueError(f"count should be at least 1 and spare at least 0; found {count} and {spare}")
    report = progress or _silent
    embedder = (
        network_embedder(bundle.read(OPTIMIZED_ONNX), threads=threads) if embedding == "network" else colour_and_gradient()
    )
    looks = _looks(source, bundle, embedder, cache or cache_folder() / "looks", report)
    broken = [entry for entry in looks if entry.flaw.startswith("unreadable")]
    if len(broken) > unreadable_share * len(looks):
        shown = "; ".join(f"{entry.name}: {entry.flaw}" for entry in broken[:3])
        raise CalibrationError(
            f"{len(broken)} of {len(looks)} frames of {source.name} cannot be read: {shown}. "
            f"At most {unreadable_share:.0%} may be unreadable. Remove or replace them."
        )
    looks = _forgiven(looks)
    against = held_out(bundle)
    known = [(entry.name, match) for entry in looks if (match := against.match(entry.thumb, entry.contrast)) is not None]
    if known:
        raise leakage_error(known)
    looks = _without_doubles(looks)
    usable = [index for index, entry in enumerate(looks) if not entry.flaw]
    dropped = tuple(Dropped(entry.name, entry.flaw) for entry in looks if entry.flaw)
    if not usable:
        raise CalibrationError(_nothing_usable(source, dropped))
    vectors = np.stack([looks[index].embedding for index in usable])
    kept = min(spare, len(usable) // 4)
    wanted = min(count, len(usable) - kept)
    order, reach = farthest_first(vectors, wanted + kept, seed=seed)
    calibration = sorted(usable[index] for index in order[:wanted])
    judging = sorted(usable[index] for index in order[wanted:])
    pixels = _read(source, bundle, [*calibration, *judging], report)
    chosen = Chosen(
        frames=tuple(pixels[index] for index in calibration),
        names=tuple(looks[index].name for index in calibration),
        source=source.name,
        kind=source.kind,
        considered=len(looks),
        dropped=dropped,
        embedding=embedder.name,
        seed=seed,
        reach=float(reach[wanted - 1]),
        spare=tuple(looks[index].name for index in judging),
    )
    return chosen, tuple(pixels[index] for index in judging)


def farthest_first(vectors: Array, count: int, *, seed: int) -> tuple[list[int], Array]:
    """Indices of `count` of the rows of (N, E) `vectors`, each the farthest from those before it; the seed draws the first.

    Columns are brought to unit spread first. Returns also, after every choice, the largest distance that is left, as a
    share of the root mean square distance from the mean.
    """
    spread = vectors.std(axis=0)
    points = (vectors - vectors.mean(axis=0)) / np.where(spread > 1e-6 * max(float(spread.max()), 1e-12), spread, np.inf)
    scale = float(np.sqrt(np.square(points).sum(axis=1).mean())) or 1.0
    chosen = [int(np.random.default_rng(seed).integers(len(points)))]
    distance = np.linalg.norm(points - points[chosen[0]], axis=1)
    reach = [float(distance.max())]
    while len(chosen) < count:
        distance[chosen] = -1.0
        chosen.append(int(distance.argmax()))
        distance = np.minimum(np.maximum(distance, 0.0), np.linalg.norm(points - points[chosen[-1]], axis=1))
        reach.append(float(distance.max()))
    return chosen, np.array(reach) / scale


def encode_frames(frames: Sequence[Array]) -> tuple[dict[str, bytes], str]:
    """JPEG files of a bundle's calibration folder by path, and the digest over the pixels as they will be decoded.

    Raises:
        BuildError: a frame cannot be encoded.
    """
    files: dict[str, bytes] = {}
    pixels = []
    for number, frame in enumerate(frames):
        fine, payload = cv2.imencode(".jpg", frame[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
        decoded = decode_image(bytes(payload)) if fine else None
        if decoded is None:
            raise BuildError(f"calibration frame {number} could not be encoded")
        files[f"{CALIBRATION}/{number:03d}.jpg"] = bytes(payload)
        pixels.append(decoded.tobytes())
    return files, sha256_bytes(b"".join(pixels))


def _silent(step: str, done: int, total: int) -> None:
    return None


def _looks(source: FrameSource, bundle: Bundle, embedder: Embedder, cache: Path, progress: Progress) -> list[Look]:
    """A look at every frame: from the cache as far as it goes, then by decoding."""
    size = bundle.manifest.input
    key = sha256_bytes(f"{source.identity} {embedder.identity} {size.height}x{size.width}".encode())[:32]
    store = LookCache(cache / key, embedder.size)
    looks = store.load()
    known = len(looks)
    for number, still in enumerate(source.stills()):
        if number >= known or looks[number].unreadable:  # a disk may fail once, and not the next time
            try:
                entry = look(still.name, check_frame(still.load().pixels), size, embedder)
            except FrameError as exc:
                entry = unreadable(still.name, str(exc), embedder)
            if number < known:
                looks[number] = entry
            else:
                looks.append(entry)
                store.add(entry)
        progress("look", number + 1, source.count or 0)
    if len(looks) > known:
        store.flush()
    if store.failure is not None:
        warnings.warn(
            f"what was seen of the frames could not be kept in {cache} ({store.failure.strerror or store.failure}). "
            "That only saves time where a calibration is interrupted; this one goes on.",
            stacklevel=2,
        )
    if not looks:
        raise CalibrationError(f"{source.name} holds no frames.")
    return looks


def _forgiven(looks: Sequence[Look]) -> list[Look]:
    """Where most frames are blurred that is how this camera sees, and no flaw."""
    blurred, fine = (sum(entry.flaw == flaw for entry in looks) for flaw in (BLURRED, ""))
    if blurred <= fine:
        return list(looks)
    return [replace(entry, flaw="") if entry.flaw == BLURRED else entry for entry in looks]


def _without_doubles(looks: Sequence[Look]) -> list[Look]:
    """Looks in which every frame that is nearly one before it has a flaw that says so."""
    kept: list[int] = []
    thumbs = np.stack([entry.thumb for entry in looks])
    squares = np.square(thumbs).mean(axis=1)
    result = list(looks)
    for index, entry in enumerate(looks):
        if entry.flaw:
            continue
        if kept:
            distance = squares[kept] + squares[index] - 2.0 * (thumbs[kept] @ thumbs[index]) / thumbs.shape[1]
            nearest = int(distance.argmin())
            if distance[nearest] < NEAR**2:
                result[index] = replace(entry, flaw=f"nearly a double of {looks[kept[nearest]].name}")
                continue
        kept.append(index)
    return result


def _nothing_usable(source: FrameSource, dropped: Sequence[Dropped]) -> str:
    counts: dict[str, int] = {}
    for entry in dropped:
        kind = entry.reason.partition(":")[0]
        counts[kind] = counts.get(kind, 0) + 1
    found = ", ".join(f"{number} {kind}" for kind, number in counts.items())
    return (
        f"None of the {len(dropped)} frames of {source.name} can be calibrated with: {found}. "
        "Give frames like those the device will see in use."
    )


def _read(source: FrameSource, bundle: Bundle, wanted: Sequence[int], progress: Progress) -> Mapping[int, Array]:
    """Pixels of the chosen frames, at network size, by their number in the source."""
    numbers = set(wanted)
    last, pixels = max(numbers), {}
    for number, still in enumerate(source.stills()):
        if number in numbers:
            try:
                pixels[number] = letterbox_image(check_frame(still.load().pixels), bundle.manifest.input)
            except FrameError as exc:
                raise CalibrationError(f"{source.name}: {still.name} can no longer be read: {exc}. Run it again.") from exc
            progress("read", len(pixels), len(numbers))
        if number >= last:
            break
    if len(pixels) < len(numbers):
        raise CalibrationError(f"{source.name} changed while it was read. Run it again.")
    return pixels
