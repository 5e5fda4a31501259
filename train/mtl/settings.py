"""Every setting of a training run, as frozen dataclasses with their defaults. Knows nothing about files or overrides."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from edge_mtl.tasks import TASK_NAMES

__all__ = [
    "AugmentSettings",
    "DataSettings",
    "EmaSettings",
    "ExportSettings",
    "LoopSettings",
    "LossSettings",
    "ModelSettings",
    "OptimizerSettings",
    "RunSettings",
    "Stage",
]

Precision = Literal["fp32", "bf16"]
DepthLoss = Literal["log_l1", "relative_l1", "l1"]
Weighting = Literal["fixed", "uncertainty"]
Supervision = Literal["phase", "full"]
AugmentMode = Literal["none", "consistent"]


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """The network; see `mtl.model.build_model`. `pretrained` is a path of local weights, empty for none."""

    backbone: str = "pvt_v2_b0"
    decoder: Literal["edge", "aspp"] = "edge"
    width: int = 64
    tasks: tuple[str, ...] = TASK_NAMES
    pretrained: str = ""
    drop_path: float = 0.0


@dataclass(frozen=True, slots=True)
class DataSettings:
    """Where frames come from.

    Attributes:
        root: folder of rendered rooms, one sub-folder per size; missing frames are rendered into it.
        height, width: size at which rooms are rendered where a stage names none; also the size of validation and test.
        train, validation, test: how many rooms of each split.
        workers: processes that render missing rooms.
    """

    root: str = "data/rooms"
    height: int = 96
    width: int = 128
    train: int = 1200
    validation: int = 64
    test: int = 200
    workers: int = 2


@dataclass(frozen=True, slots=True)
class Stage:
    """One leg of the resolution curriculum.

    Attributes:
        height, width: of the network's input, multiples of 32.
        steps: optimisation steps.
        batch: frames a step.
        render_height, render_width: size of the rooms that feed it (0: `data.height`, `data.width`); larger rooms are
            reduced, by area for the picture and by nearest pixel for the targets.
        train: how many training rooms (0: `data.train`).
        segmentation, depth, normals: weights of the losses in this leg (0: those of `losses`); "fixed" weighting only.
    """

    height: int
    width: int
    steps: int
    batch: int = 8
    render_height: int = 0
    render_width: int = 0
    train: int = 0
    segmentation: float = 0.0
    depth: float = 0.0
    normals: float = 0.0


@dataclass(frozen=True, slots=True)
class AugmentSettings:
    """How training frames are varied. `scale` is the range of the random zoom; probabilities are per frame."""

    mode: AugmentMode = "consistent"
    flip: float = 0.5
    scale: tuple[float, float] = (1.0, 1.5)
    scale_probability: float = 0.7
    brightness: float = 0.25
    contrast: float = 0.25
    gamma: float = 0.3
    colour: float = 0.15
    saturation: float = 0.4
    blur: float = 0.15
    noise: float = 0.03


@dataclass(frozen=True, slots=True)
class OptimizerSettings:
    """AdamW with linear warm-up and cosine decay over all stages together; `floor` is the last rate as a share of `lr`."""

    lr: float = 1e-3
    weight_decay: float = 0.02
    betas: tuple[float, float] = (0.9, 0.98)
    warmup: float = 0.06
    floor: float = 0.005
    clip: float = 5.0


@dataclass(frozen=True, slots=True)
class EmaSettings:
    """Moving average of the weights, which is what is evaluated and exported; decay 0 uses the weights as they are."""

    decay: float = 0.998


@dataclass(frozen=True, slots=True)
class LossSettings:
    """Losses and their weights.

    Attributes:
        segmentation, depth, normals: weights of the tasks ("fixed"), or their start ("uncertainty").
        weighting: "uncertainty" learns the weights (Kendall et al. 2018, arXiv:1705.07115).
        depth_kind: "log_l1" |ln p - ln g|, "relative_l1" |p - g| / g, "l1" |p - g| in metres (the study's).
        class_weights: weigh classes by the inverse root of their frequency in the training rooms.
        label_smoothing: of the cross-entropy.
        supervision: "full" upsamples predictions to every pixel; "phase" supervises, each step, one random pixel of
            every stride x stride cell with the same upsampling: the same loss in expectation at a fraction of the cost.
    """

    segmentation: float = 1.0
    depth: float = 1.0
    normals: float = 1.0
    weighting: Weighting = "fixed"
    depth_kind: DepthLoss = "log_l1"
    class_weights: bool = False
    label_smoothing: float = 0.0
    supervision: Supervision = "phase"


@dataclass(frozen=True, slots=True)
class LoopSettings:
    """How the run is driven; these may change when a run is resumed.

    Attributes:
        threads: of PyTorch, 0 for all cores that this process may use.
        loader_workers: processes that prepare batches, 0 for none.
        precision: "bf16" is autocast.
        evaluate_every: steps between evaluations on the validation rooms, 0 for once per pass over the training rooms.
        checkpoint_s: seconds between resumable checkpoints.
        pictures: validation rooms drawn after every evaluation, 0 for none.
    """

    threads: int = 0
    loader_workers: int = 1
    precision: Precision = "bf16"
    channels_last: bool = True
    evaluate_every: int = 0
    checkpoint_s: float = 120.0
    pictures: int = 6


@dataclass(frozen=True, slots=True)
class ExportSettings:
    """What the bundle holds: calibration frames (train split), labelled and golden frames (test split)."""

    folder: str = "bundles"
    calibration: int = 32
    evaluation: int = 24
    golden: int = 3
    jpeg_quality: int = 92


@dataclass(frozen=True, slots=True)
class RunSettings:
    """A whole run. `stages` is the resolution curriculum; the last stage's size is the network's."""

    name: str = "rooms-quick"
    seed: int = 0
    folder: str = "runs"
    stages: tuple[Stage, ...] = (Stage(height=96, width=128, steps=2400),)
    model: ModelSettings = field(default_factory=ModelSettings)
    data: DataSettings = field(default_factory=DataSettings)
    augment: AugmentSettings = field(default_factory=AugmentSettings)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    ema: EmaSettings = field(default_factory=EmaSettings)
    losses: LossSettings = field(default_factory=LossSettings)
    loop: LoopSettings = field(default_factory=LoopSettings)
    export: ExportSettings = field(default_factory=ExportSettings)

    @property
    def steps(self) -> int:
        """Steps of all stages together."""
        return sum(stage.steps for stage in self.stages)

    def stage_at(self, step: int) -> int:
        """Index of the stage that step number `step` (from 0) belongs to; the last one beyond the end."""
        end = 0
        for index, stage in enumerate(self.stages):
            end += stage.steps
            if step < end:
                return index
        return len(self.stages) - 1
