"""What is kept of a frame in order to choose: how bright and sharp it is, a thumbnail, an embedding; and a cache of these.

Knows pixels; knows nothing about sources or bundles. Thresholds were measured on rendered rooms at 288x384, see
docs/decisions/0006.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge_mtl.backends.reference import import_reference
from edge_mtl.backends.threads import default_threads
from edge_mtl.errors import BuildError
from edge_mtl.files import sha256_bytes, write_atomic
from edge_mtl.image.frames import letterbox, letterbox_image
from edge_mtl.manifest import InputSpec
from edge_mtl.onnx_graph.model import GraphIndex, import_onnx, parse
from edge_mtl.unfinished import sweep_temporaries

__all__ = [
    "BLURRED",
    "THUMBNAIL",
    "Embedder",
    "Look",
    "LookCache",
    "colour_and_gradient",
    "look",
    "network_embedder",
    "thumbnail",
    "unreadable",
]

Array = np.ndarray

THUMBNAIL = (16, 12)
"""Width and height."""

BLURRED = "blurred"
_UNREADABLE = "unreadable: "

_CHUNK = 64
_BLACK_LEVEL = 24.0
_FLAT_CONTRAST = 4.0
_BLUR = 0.5
_SOFTEST_EDGE = 0.08
_BLUR_WIDTH = 9


@dataclass(frozen=True, slots=True)
class Look:
    """What is kept of one frame.

    Attributes:
        name: of the frame.
        flaw: why it cannot be used ("black", "no contrast", "blurred", "unreadable: ..."); "" if it can.
        thumb: (192,) float32, contrast-normalised; zeros for unreadable frames.
        contrast: standard deviation of the thumbnail in grey levels.
        embedding: (E,) float32; zeros for frames with a flaw, except blurred ones: whether they are one depends on others.
    """

    name: str
    flaw: str
    thumb: Array
    contrast: float
    embedding: Array

    @property
    def unreadable(self) -> bool:
        """Whether the frame could not be decoded, as where the disk failed for once."""
        return self.flaw.startswith(_UNREADABLE)


@dataclass(frozen=True, slots=True)
class Embedder:
    """How frames are turned into vectors whose distance says how different they are to the network.

    Attributes:
        name: "network" or "colour and gradient".
        identity: changes with whatever changes the vectors.
        size: length of a vector.
        embed: (H, W, 3) uint8 RGB of the network's size -> (size,) float32.
    """

    name: str
    identity: str
    size: int
    embed: Callable[[Array], Array]


def look(name: str, image: Array, size: InputSpec, embedder: Embedder) -> Look:
    """Look at an image of any size, (H, W, 3) uint8 RGB, as a network of input `size` will see it."""
    thumb, contrast = thumbnail(image)
    frame = letterbox_image(image, size)
    box = letterbox((image.shape[0], image.shape[1]), (size.height, size.width))
    flaw = _flaw(cv2.cvtColor(frame[box.rows, box.columns], cv2.COLOR_RGB2GRAY))
    embedding = embedder.embed(frame) if flaw in ("", BLURRED) else np.zeros(embedder.size, np.float32)
    return Look(name, flaw, thumb, contrast, embedding)


def unreadable(name: str, reason: str, embedder: Embedder) -> Look:
    """Stands for a frame that could not be decoded."""
    empty = np.zeros(THUMBNAIL[0] * THUMBNAIL[1], np.float32)
    return Look(name, f"{_UNREADABLE}{reason}", empty, 0.0, np.zeros(embedder.size, np.float32))


def thumbnail(image: Array) -> tuple[Array, float]:
    """(192,) float32 of mean 0 and spread about 1, whatever the size and exposure; and the spread in grey levels before."""
    small = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), THUMBNAIL, interpolation=cv2.INTER_AREA)
    values = small.astype(np.float32).ravel()
    contrast = float(values.std())
    return (values - values.mean()) / np.float32(contrast + 4.0), contrast


def network_embedder(deploy_model: bytes, *, threads: int | None = None) -> Embedder:
    """Mean and spread of every channel of the network's smallest feature map: what the deepest layers see of a frame.

    Raises:
        BackendUnavailable: onnx or ONNX Runtime is missing.
        BuildError: the graph has no feature maps, or does not run.
    """
    onnx = import_onnx()
    model = parse(deploy_model, name="the optimized ONNX")
    tensor, channels = _deepest(GraphIndex(model))
    runtime = import_reference("Embedding frames")
    outputs = {value.name for value in model.graph.output}
    del model.graph.output[:]
    model.graph.output.append(onnx.helper.make_tensor_value_info(tensor, onnx.TensorProto.FLOAT, None))
    session = _session(runtime, model, threads)
    feed = session.get_inputs()[0].name
    assert tensor not in outputs

    def embed(frame: Array) -> Array:
        planes = np.ascontiguousarray(frame.transpose(2, 0, 1)[None]).astype(np.float32)
        try:
            (found,) = session.run([tensor], {feed: planes})
        except Exception as exc:
            raise BuildError(f"The optimized ONNX does not run on a frame: {str(exc).splitlines()[0]}") from exc
        flat = found[0].reshape(channels, -1)
        return np.concatenate([flat.mean(axis=1), flat.std(axis=1)]).astype(np.float32)

    return Embedder("network", f"network {tensor} {sha256_bytes(deploy_model)}", 2 * channels, embed)


def colour_and_gradient() -> Embedder:
    """Colours on a coarse grid, histograms in CIE Lab, and directions of edges on the grid; needs no network."""
    return Embedder("colour and gradient", "colour and gradient 1", 36 + 24 + 72, _colour_and_gradient)


class LookCache:
    """Looks of one source in the order of its frames, on disk in chunks, so that a walk that was stopped can go on.

    Args:
        folder: of this source and embedder only; made when first needed.
    Attributes:
        failure: why nothing more is kept; None while everything is.
    """

    def __init__(self, folder: Path, embedding_size: int) -> None:
        self._folder, self._size = folder, embedding_size
        self._pending: list[Look] = []
        self.failure: OSError | None = None
        self._chunks = 0
        sweep_temporaries(folder)

    def load(self) -> list[Look]:
        """What is there, from the first frame on; a damaged chunk ends it."""
        looks: list[Look] = []
        while (chunk := self._read(self._chunks)) is not None:
            looks += chunk
            self._chunks += 1
            if len(chunk) < _CHUNK:
                break
        return looks

    def add(self, entry: Look) -> None:
        """Keep one more, as long as that works."""
        self._pending.append(entry)
        if len(self._pending) == _CHUNK:
            self.flush()

    def flush(self) -> None:
        """Write what is pending."""
        if not self._pending or self.failure is not None:
            self._pending.clear()
            return
        stream = io.BytesIO()
        np.savez(
            stream,
            names=np.array([entry.name for entry in self._pending]),
            flaws=np.array([entry.flaw for entry in self._pending]),
            thumbs=np.stack([entry.thumb for entry in self._pending]),
            contrasts=np.array([entry.contrast for entry in self._pending]),
            embeddings=np.stack([entry.embedding for entry in self._pending]),
        )
        try:
            write_atomic(self._path(self._chunks), stream.getvalue())
        except OSError as exc:
            self.failure = exc
        self._pending.clear()
        self._chunks += 1

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:06d}.npz"

    def _read(self, number: int) -> list[Look] | None:
        try:
            with np.load(self._path(number), allow_pickle=False) as content:
                names, flaws, thumbs = content["names"], content["flaws"], content["thumbs"]
                contrasts, embeddings = content["contrasts"], content["embeddings"]
            if not len(names) == len(flaws) == len(thumbs) == len(contrasts) == len(embeddings) or not (
                thumbs.shape[1:] == (THUMBNAIL[0] * THUMBNAIL[1],) and embeddings.shape[1:] == (self._size,)
            ):
                return None
        except Exception:  # missing or damaged in one of many ways: those frames are looked at again
            return None
        rows: Sequence[Any] = list(zip(names, flaws, thumbs, contrasts, embeddings, strict=True))
        return [Look(str(name), str(flaw), thumb, float(spread), vector) for name, flaw, thumb, spread, vector in rows]


def _flaw(grey: Array) -> str:
    """Why a frame is of no use; "" if it is."""
    low, high = np.percentile(grey, (1, 99))
    if high < _BLACK_LEVEL:
        return "black"
    if high - low < _FLAT_CONTRAST:
        return "no contrast"
    return BLURRED if _is_blurred(grey.astype(np.float32), float(high - low)) else ""


def _is_blurred(grey: Array, contrast: float) -> bool:
    """Blur changes a blurred image little, and its sharpest edges are soft for its contrast.

    Source of the first: Crete-Roffet et al. 2007, "The Blur Effect"; of the second: our own measurement.
    """
    shares = []
    for axis, kernel in ((1, (_BLUR_WIDTH, 1)), (0, (1, _BLUR_WIDTH))):
        before = np.abs(np.diff(grey, axis=axis))
        after = np.abs(np.diff(cv2.blur(grey, kernel), axis=axis))
        total = float(before.sum())
        shares.append(float(np.minimum(before, after).sum()) / total if total else 1.0)
    if max(shares) > _BLUR:
        return True
    edges = cv2.magnitude(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)) / 8.0
    return float(np.percentile(edges, 99)) < _SOFTEST_EDGE * contrast


def _colour_and_gradient(frame: Array) -> Array:
    coarse = cv2.resize(frame, (4, 3), interpolation=cv2.INTER_AREA).astype(np.float32).ravel() / 255.0
    lab = cv2.cvtColor(frame, cv2.COLOR_RGB2LAB)
    area = frame.shape[0] * frame.shape[1]
    colours = [cv2.calcHist([lab], [channel], None, [8], [0, 256]).ravel() / area for channel in range(3)]
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32)
    strength, direction = cv2.cartToPolar(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))
    sector = (np.mod(direction, np.pi) * (6 / np.pi)).astype(np.intp).clip(0, 5)
    edges = []
    for rows in np.array_split(np.arange(grey.shape[0]), 3):
        for columns in np.array_split(np.arange(grey.shape[1]), 4):
            part = np.ix_(rows, columns)
            edges.append(np.bincount(sector[part].ravel(), strength[part].ravel(), 6) / (100.0 * sector[part].size))
    return np.concatenate([coarse, *colours, *edges]).astype(np.float32)


def _deepest(index: GraphIndex) -> tuple[str, int]:
    """The last feature map of the smallest size, and its channels."""
    found: list[tuple[int, int, str, int]] = []
    for number, node in enumerate(index.nodes):
        shape = index.shapes.get(node.output[0], ())
        is_map = len(shape) == 4 and min(shape[2:]) > 1 and node.op_type not in ("MatMul", "Softmax", "Transpose")
        if is_map and node.output[0] not in index.outputs and shape[1] > 1:
            found.append((shape[2] * shape[3], -number, node.output[0], shape[1]))
    if not found:
        raise BuildError("The optimized ONNX has no feature maps to compare frames by. Use the colour and gradient embedding.")
    return min(found)[2:]


def _session(runtime: Any, model: Any, threads: int | None) -> Any:
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.intra_op_num_threads = threads or default_threads()
    try:
        return runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as exc:
        raise BuildError(f"ONNX Runtime cannot open the optimized ONNX: {str(exc).splitlines()[0]}") from exc
