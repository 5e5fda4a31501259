"""The frames that travel in a bundle: calibration, labelled evaluation and golden ones, encoded as the contract says; and the
statistics that stand in place of calibration frames that may not travel.

Knows images and file names; knows nothing about models but the answers it is given.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import cv2
import numpy as np

from edge_mtl.calibration.frame_features import thumbnail
from edge_mtl.calibration.leakage import fingerprint
from edge_mtl.errors import BuildError
from edge_mtl.files import sha256_bytes
from edge_mtl.quantization.recorded import write_recorded
from edge_mtl.quantization.recording import record
from edge_mtl.sources.images import decode_image
from edge_mtl.tasks import Specs, kind_of
from mtl.datasets.augment import apply_view, whole_view
from mtl.datasets.frame import FrameSource
from mtl.datasets.mixture import MixtureFrames, Turns
from mtl.tasks import head_of

__all__ = [
    "calibration_choice",
    "labelled_spread",
    "network_image",
    "spread",
    "write_calibration",
    "write_evaluation",
    "write_golden",
    "write_statistics",
]


@runtime_checkable
class KnowsTruths(Protocol):
    """Frames that say which tasks they have truths of without opening a file; others have truths of all."""

    def known(self, index: int) -> frozenset[str]:
        """The tasks that frame `index` has truths of."""


def spread(count: int, of: int) -> list[int]:
    """`count` different numbers below `of`, evenly spaced; all of them when there are not enough."""
    if count >= of:
        return list(range(of))
    return [int(index) for index in (np.arange(count) * of) // max(1, count)]


def calibration_choice(frames: FrameSource, count: int, shares: Mapping[str, float]) -> tuple[list[int], dict[str, int]]:
    """`count` training frames that INT8 is calibrated with, evenly spaced, and how many are of each source of a mixture.

    Args:
        shares: of the sources of a mixture; of any other frames empty. Where a source has fewer frames than its share, all of
            them are taken, and fewer than `count` altogether.
    """
    if not isinstance(frames, MixtureFrames):
        return spread(count, len(frames)), {}
    turns = Turns(shares)
    wanted = Counter(turns.at(step)[0] for step in range(count))
    chosen: dict[str, list[int]] = {}
    for source in shares:
        own = frames.numbers_of(source)
        chosen[source] = [own[place] for place in spread(wanted[source], len(own))]
    return sorted(index for numbers in chosen.values() for index in numbers), {name: len(one) for name, one in chosen.items()}


def labelled_spread(frames: FrameSource, tasks: Collection[str], count: int, of: int) -> list[int]:
    """`count` frames below `of` to measure `tasks` on, in order.

    They are evenly spaced where frames have all truths. Else frames without any are left out, and tasks choose in turn, the
    one with the fewest frames first, each evenly among its own.
    """
    if not isinstance(frames, KnowsTruths):
        return spread(count, of)
    known = {index: frames.known(index) & set(tasks) for index in range(of)}
    if all(found == set(tasks) for found in known.values()):
        return spread(count, of)
    own = {task: [index for index in range(of) if task in known[index]] for task in tasks}
    turns = [iter(_from_everywhere(own[task])) for task in sorted(own, key=lambda task: len(own[task]))]
    chosen: set[int] = set()
    while turns and len(chosen) < count:
        turn = turns.pop(0)
        found = next((index for index in turn if index not in chosen), None)
        if found is not None:
            chosen.add(found)
            turns.append(turn)
    return sorted(chosen)


def _from_everywhere(indices: Sequence[int]) -> list[int]:
    """In an order whose every beginning is spread: by the bits of the place, read backwards."""
    bits = max(1, len(indices) - 1).bit_length()
    order = sorted(range(len(indices)), key=lambda place: int(f"{place:0{bits}b}"[::-1], 2))
    return [indices[place] for place in order]


def write_calibration(folder: Path, frames: FrameSource, indices: Sequence[int], size: tuple[int, int], quality: int) -> str:
    """Write the images as JPEG; the SHA-256 over the pixels as they are decoded, in order."""
    pixels = []
    for number, (payload, decoded) in enumerate(_as_stored(frames, indices, size, quality)):
        (folder / f"{number:03d}.jpg").write_bytes(payload)
        pixels.append(decoded.tobytes())
    return sha256_bytes(b"".join(pixels))


def write_statistics(
    path: Path, graph: bytes, frames: FrameSource, indices: Sequence[int], size: tuple[int, int], quality: int
) -> str:
    """Write what INT8 of `graph` takes from the frames that `write_calibration` would write; its SHA-256 over their pixels.

    Raises:
        CalibrationError, BuildError, BackendUnavailable: as `edge_mtl.quantization.recording.record` does.
    """
    images = [decoded for _, decoded in _as_stored(frames, indices, size, quality)]
    prints = np.stack([fingerprint(thumbnail(image)[0]) for image in images])
    recorded = record(graph, images, fingerprints=prints)
    path.write_bytes(write_recorded(recorded))
    return recorded.digest


def write_evaluation(
    folder: Path,
    frames: FrameSource,
    specs: Specs,
    indices: Sequence[int],
    size: tuple[int, int],
    quality: int,
    *,
    more: Sequence[int] = (),
) -> None:
    """Write images as JPEG, beside them what is true of each task as its kind writes it, and intrinsics.json.

    Args:
        indices: of frames with all their truths.
        more: of frames with truths of sparse tasks only (`mtl.tasks.Head.sparse`), which need many and take little space.
    """
    cameras = {}
    sparse = {name: spec for name, spec in specs.items() if head_of(spec).sparse}
    for number, (index, wanted) in enumerate([*((one, specs) for one in indices), *((one, sparse) for one in more)]):
        frame = frames[index]
        view = whole_view(frame.size, aspect=size[1] / size[0])
        seen = apply_view(frame, view, wanted, size=size, canonical=False)
        name = f"{number:03d}"
        (folder / f"{name}.jpg").write_bytes(_jpeg(seen.image, quality))
        for task, truth in seen.truths.items():
            for ending, payload in kind_of(specs[task]).write_truth(specs[task], truth).items():
                (folder / f"{name}{ending}").write_bytes(payload)
        cameras[name] = [round(float(value), 4) for value in seen.intrinsics]
    (folder / "intrinsics.json").write_text(json.dumps(cameras, indent=1) + "\n", encoding="utf-8")


def write_golden(
    folder: Path,
    frames: FrameSource,
    indices: Sequence[int],
    size: tuple[int, int],
    answer: Callable[[np.ndarray], Mapping[str, np.ndarray]],
) -> None:
    """Write lossless images and what the FP32 reference answers to them, as float16."""
    for number, index in enumerate(indices):
        image = network_image(frames, index, size)
        (folder / f"{number:03d}.png").write_bytes(_png(image[..., ::-1]))
        stream = io.BytesIO()
        arrays: dict[str, Any] = {name: value.astype(np.float16) for name, value in answer(image).items()}
        if not all(np.isfinite(value).all() for value in arrays.values()):
            raise BuildError("the FP32 reference gives values that float16 cannot hold. Train again or choose other weights")
        np.savez_compressed(stream, **arrays)
        (folder / f"{number:03d}.npz").write_bytes(stream.getvalue())


def network_image(frames: FrameSource, index: int, size: tuple[int, int]) -> np.ndarray:
    """Frame number `index` as the network sees it: (H, W, 3) uint8 RGB of `size`."""
    frame = frames[index]
    return apply_view(frame, whole_view(frame.size, aspect=size[1] / size[0]), {}, size=size, canonical=False).image


def _as_stored(
    frames: FrameSource, indices: Sequence[int], size: tuple[int, int], quality: int
) -> Iterator[tuple[bytes, np.ndarray]]:
    """Images as JPEG files and as they are decoded: (H, W, 3) uint8 RGB."""
    for index in indices:
        payload = _jpeg(network_image(frames, index, size), quality)
        decoded = decode_image(payload)
        assert decoded is not None
        yield payload, decoded


def _jpeg(image: np.ndarray, quality: int) -> bytes:
    return _encoded(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])


def _png(array: np.ndarray) -> bytes:
    return _encoded(".png", array, [cv2.IMWRITE_PNG_COMPRESSION, 9])


def _encoded(suffix: str, array: np.ndarray, options: list[int]) -> bytes:
    fine, payload = cv2.imencode(suffix, np.ascontiguousarray(array), options)
    if not fine:
        raise BuildError(f"a frame could not be encoded as {suffix}")
    return bytes(payload.tobytes())
