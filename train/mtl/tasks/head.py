"""What a kind of task is in training: one object that owns its first answers, losses, targets, augmentation and columns.

A kind is added by writing a subclass of `Head`, or of `DenseHead` for maps, and passing it to `mtl.tasks.register`; a
distribution does that through the entry point group `mtl.heads`. A head whose answer is no map makes a network of its own
(`Head.build`); the others share a decoder. What the kind is at run time is in `edge_mtl.tasks`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edge_mtl.errors import BuildError
from edge_mtl.tasks import Placement, Result, TaskSpec
from mtl.geometry import Intrinsics

if TYPE_CHECKING:
    from mtl.datasets.augment import Sampling
    from mtl.datasets.frame import FrameSource
    from mtl.models.head_network import HeadNetwork
    from mtl.settings import DataSettings, ExportSettings, LossSettings, ModelSettings

__all__ = ["Column", "DenseHead", "Head", "HeadOptions", "LossTerms", "at_phase", "masked_mean"]

Array = np.ndarray
S = TypeVar("S", bound=TaskSpec)
R = TypeVar("R", bound=Result)


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a kind.

    Attributes:
        measure: name of the measure, see `edge_mtl.tasks.Kind.measures`.
        heading: of the column.
        decimals: shown after the point.
        score: what the measure counts for in `score`.
        curve: whether reports draw it over the steps of a run.
        words: what sentences call the measure.
        instead_of: a measure of the same task that `score` leaves out where this one is known; "" for none.
    """

    measure: str
    heading: str
    decimals: int
    score: float = 0.0
    curve: bool = False
    words: str = ""
    instead_of: str = ""


@dataclass(frozen=True, slots=True)
class HeadOptions:
    """What the heads of a network say, as far as that can be chosen.

    Attributes:
        depth_output: whether a depth head says "log" metres or "linear" metres. Raises BuildError where it is neither.
    """

    depth_output: Literal["log", "linear"] = "log"

    def __post_init__(self) -> None:
        if self.depth_output not in ("log", "linear"):
            raise BuildError(f"unknown depth output {self.depth_output!r}: expected log or linear")


@dataclass(frozen=True, slots=True)
class LossTerms:
    """What a loss depends on besides answer and target.

    Attributes:
        settings: of all losses.
        stride: of the answers, in pixels of the targets' full size.
        phase: which pixel of every stride x stride cell the targets are; None where they are of full size.
        balance: what `Head.balance` found in the training frames.
    """

    settings: LossSettings
    stride: int
    phase: tuple[int, int] | None = None
    balance: Tensor | None = None


class Head(ABC, Generic[S, R]):
    """All that differs between kinds of tasks in training.

    Three forms of one thing: a *truth* is what a frame holds (NumPy, or plain values), a *target* is what a batch holds of
    all its frames (a tensor whose first axis is the frame, or a list with one entry a frame), and an *answer* is what the
    network says of a batch.

    Class attributes:
        kind: name of the kind, see `edge_mtl.tasks.KINDS`.
        columns: of tables; which of them a task has, `columns_of` says.
        sparse: whether a frame gives a few answers to measure and not one a pixel: figures need many frames then.
    """

    kind: ClassVar[str]
    columns: ClassVar[tuple[Column, ...]]
    sparse: ClassVar[bool] = False

    def columns_of(self, spec: S) -> tuple[Column, ...]:
        """Those of `columns` that the task has, all by default; the first stands for the task where one figure has to."""
        return self.columns

    # ---- network

    def build(self, spec: S, channels: Sequence[int], strides: Sequence[int], *, width: int) -> HeadNetwork | None:
        """The network of its own that reads the backbone's stages; None, the default, for a branch of the decoder of maps.

        Args:
            channels, strides: of the stages, finest first.
            width: channels of the layers between.
        Raises:
            BuildError: it cannot read these stages.
        """
        return None

    def channels(self, spec: S) -> int:
        """Channels of the raw map that a decoder makes for it; 0, the default, for a head with a network of its own."""
        return 0

    def start(self, spec: S, layer: nn.Conv2d, options: HeadOptions) -> None:
        """Set the bias of the last layer, which is 0, to an answer that is plausible everywhere. Nothing by default."""

    def answer(self, spec: S, raw: Tensor, options: HeadOptions, *, clamp: bool) -> Any:
        """The raw map of a decoder, or what its own network gives -> the answer, float32.

        Args:
            clamp: whether values outside the head's range are cut off; not in training, where a cut has no gradient.
        """
        return raw.float()

    @abstractmethod
    def exported(self, spec: S, answer: Any, placement: Placement) -> tuple[Tensor, ...]:
        """The outputs of a graph of either placement, in the order of `Kind.outputs`."""

    @abstractmethod
    def imported(self, spec: S, outputs: Sequence[Tensor]) -> Any:
        """The answer from what `exported` gave for placement "host"."""

    def difference(self, spec: S, before: S) -> str | None:
        """Why a last layer that was trained for `before`, of this kind, does not serve `spec`; None where it does."""
        here, there = self.channels(spec), self.channels(before)
        return None if here == there else f"{here} channels here, {there} there"

    def bundled(self, spec: S, export: ExportSettings) -> S:
        """The task as a bundle describes it, where settings decide on more than is learnt. As it is by default.

        Raises:
            ValueError: what a manifest cannot say.
        """
        return spec

    # ---- data

    def joined(self, spec: S, other: S) -> S | None:
        """The task that two data sets both label, this kind's; None where they mean different things by its name."""
        return spec if spec == other else None

    @abstractmethod
    def view(self, spec: S, truth: Any, sampling: Sampling) -> Any:
        """The truth of a view of the frame: cut, resized, mirrored, for another camera."""

    def within(self, spec: S, truth: Any, settings: DataSettings) -> Any:
        """The truth with how exact the data set says that it is, in a form that `view`, `pasted`, `collate` and `loss` know.

        As it is by default.
        """
        return truth

    def pasted(self, spec: S, truth: Any | None, other: Any | None, mask: Array) -> Any:
        """The truth of a frame into which part of another one was pasted; None stands for a frame without it, not both.

        Args:
            mask: (h, w) bool, the pixels that are of the other frame.
        Raises:
            BuildError: truths of this kind cannot be mixed.
        """
        raise BuildError(f"{spec.name} is of the kind {self.kind}, which cannot be mixed between frames: set augment.mix to 0")

    @abstractmethod
    def collate(self, spec: S, truths: Sequence[Any | None]) -> Any:
        """The target of several frames; None stands for a frame without this truth, and at least one has it."""

    def balance(self, spec: S, frames: Callable[[], FrameSource], settings: LossSettings) -> Tensor | None:
        """What the loss has to know of the training frames, such as how frequent classes are; None for nothing.

        Args:
            frames: opens them; called only where they are needed.
        """
        return None

    # ---- loss

    @abstractmethod
    def loss(self, spec: S, answer: Any, target: Any, terms: LossTerms) -> Tensor:
        """A scalar: the mean over all that has truth, 0 where nothing has."""

    @abstractmethod
    def count(self, spec: S, target: Any, terms: LossTerms) -> Tensor:
        """A float64 scalar: how much has truth, as the mean of `loss` counts it."""

    @abstractmethod
    def distance(self, spec: S, found: Any, wanted: Any, settings: LossSettings) -> Tensor:
        """A scalar: how far an answer is from that of a teacher, in the measure of `loss`."""

    def softened(self, spec: S, found: Any, wanted: Any, settings: LossSettings, *, temperature: float) -> Tensor:
        """As `distance`, where answers are probabilities between those softened by a temperature."""
        return self.distance(spec, found, wanted, settings)

    @abstractmethod
    def nothing(self, answer: Any) -> Tensor:
        """A loss of 0 that depends on the answer, for a part of a batch without truth."""

    def problem(self, spec: S, model: ModelSettings, losses: LossSettings) -> str | None:
        """What cannot work in settings, for an error message; None where all is well."""
        return None

    # ---- evaluation

    @abstractmethod
    def result(self, spec: S, answer: Any, size: tuple[int, int], *, seen_by: Intrinsics, camera: Intrinsics) -> R:
        """The answer for one frame as a result of the kind.

        Args:
            answer: of a batch of one.
            size: (H, W) of the frame.
            seen_by: the camera that the network answers for.
            camera: the frame's own, which the result is for.
        """

    @abstractmethod
    def as_truth(self, result: R) -> Any:
        """A result in the form of a truth, to be painted like one."""

    @abstractmethod
    def paint(self, spec: S, image: Array, truth: Any) -> Array:
        """(H, W, 3) uint8 RGB of a truth of `image`, black where it is unknown."""


class DenseHead(Head[S, R]):
    """A head whose truth is one map (H, W[, C]), and whose answer is one map (B, C, h, w).

    Class attributes:
        unknown: what pixels without truth hold.
    """

    unknown: ClassVar[float] = 0

    @abstractmethod
    def channels(self, spec: S) -> int: ...

    def exported(self, spec: S, answer: Tensor, placement: Placement) -> tuple[Tensor, ...]:
        if placement == "host":
            return (answer,)
        return (self.finished(F.interpolate(answer, scale_factor=4.0, mode="bilinear", align_corners=False)),)

    def imported(self, spec: S, outputs: Sequence[Tensor]) -> Tensor:
        (found,) = outputs
        return found

    @abstractmethod
    def finished(self, full: Tensor) -> Tensor:
        """An answer upsampled to the image's size -> the finished map of a graph that ends in it."""

    def collate(self, spec: S, truths: Sequence[Array | None]) -> Tensor:
        known = next(truth for truth in truths if truth is not None)
        blank = np.full_like(known, self.unknown)
        return torch.from_numpy(np.stack([blank if truth is None else truth for truth in truths]))

    def pasted(self, spec: S, truth: Array | None, other: Array | None, mask: Array) -> Array:
        known = truth if truth is not None else other
        assert known is not None
        blank = np.full_like(known, self.unknown)
        inside = mask.reshape(*mask.shape, *(1,) * (known.ndim - mask.ndim))
        return np.where(inside, blank if other is None else other, blank if truth is None else truth)

    def loss(self, spec: S, answer: Tensor, target: Tensor, terms: LossTerms) -> Tensor:
        return self.error(spec, aligned(answer, target, terms), target, terms)

    @abstractmethod
    def error(self, spec: S, maps: Tensor, target: Tensor, terms: LossTerms) -> Tensor:
        """As `loss`, of maps at the target's pixels."""

    def nothing(self, answer: Tensor) -> Tensor:
        return answer.sum() * 0.0

    def result(self, spec: S, answer: Tensor, size: tuple[int, int], *, seen_by: Intrinsics, camera: Intrinsics) -> R:
        full = answer.float()
        if tuple(full.shape[2:]) != size:
            full = F.interpolate(full, size=size, mode="bilinear")
        return self.full_result(spec, full[0], seen_by=seen_by, camera=camera)

    @abstractmethod
    def full_result(self, spec: S, full: Tensor, *, seen_by: Intrinsics, camera: Intrinsics) -> R:
        """As `result`, of the answer (C, H, W) at the frame's size."""


def aligned(answer: Tensor, target: Tensor, terms: LossTerms) -> Tensor:
    """An answer (B, C, h, w) at the pixels of its target (B, H, W, ...)."""
    if terms.phase is not None:
        return at_phase(answer, stride=terms.stride, phase=terms.phase)
    size = (int(target.shape[1]), int(target.shape[2]))
    if tuple(answer.shape[2:]) == size:
        return answer
    return F.interpolate(answer, size=size, mode="bilinear", align_corners=False)


def at_phase(maps: Tensor, *, stride: int, phase: tuple[int, int]) -> Tensor:
    """The pixels (phase_y + stride i, phase_x + stride j) of `maps` upsampled bilinearly, without upsampling the rest.

    Equal to `F.interpolate(maps, scale_factor=stride, mode="bilinear", align_corners=False)[:, :, py::stride, px::stride]`.

    Args:
        maps: (B, C, h, w).
        phase: (py, px), each in 0..stride-1.
    Returns:
        (B, C, h, w).
    """
    for dim, offset in ((2, phase[0]), (3, phase[1])):
        shift = (offset + 0.5) / stride - 0.5
        if shift == 0:
            continue
        size = maps.shape[dim]
        kept, edge = (maps.narrow(dim, 0, size - 1), maps.narrow(dim, 0, 1)) if shift < 0 else (
            maps.narrow(dim, 1, size - 1), maps.narrow(dim, size - 1, 1))  # fmt: skip
        neighbour = torch.cat([edge, kept] if shift < 0 else [kept, edge], dim=dim)
        maps = torch.lerp(maps, neighbour, abs(shift))
    return maps


def masked_mean(error: Tensor, valid: Tensor) -> Tensor:
    """Mean of `error` where `valid`, 0 where that is nowhere."""
    return torch.where(valid, error, torch.zeros_like(error)).sum() / valid.sum().clamp_min(1)
