"""Every setting of a training run, as frozen dataclasses with their defaults. Knows nothing about files or overrides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from edge_mtl.tasks import NYU_TASKS
from mtl.datasets.augment_settings import AugmentSettings
from mtl.datasets.data_set import DEFAULT_ROOT

__all__ = [
    "BoxesSettings",
    "DataSettings",
    "DistillSettings",
    "EmaSettings",
    "ExportSettings",
    "GraphPrecision",
    "LoopSettings",
    "LossSettings",
    "ModelSettings",
    "OptimizerSettings",
    "QatSettings",
    "RunSettings",
    "SourceSettings",
    "Stage",
]

Precision = Literal["auto", "fp32", "bf16"]
DepthLoss = Literal["log_l1", "relative_l1", "l1"]
NormalLoss = Literal["cosine", "dot"]
Weighting = Literal[
    "fixed", "uncertainty", "dwa", "rlw", "gls", "famo",
    "pcgrad", "cagrad", "nash_mtl", "imtl_g", "mgda", "aligned_mtl", "upgrad",
]  # fmt: skip
Supervision = Literal["phase", "full"]
QatTarget = Literal["onnxruntime", "openvino", "tensorrt"]
QatRanges = Literal["learned", "ema", "fixed"]
GraphPrecision = Literal["auto", "fp32"]

LINEAR_WEIGHTINGS = ("fixed", "uncertainty", "dwa")
"""Weightings whose weights are the same for every part of a batch: the parts may be weighed one after the other."""


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """The network; see `mtl.models.build_model`. Paths are empty for none.

    Attributes:
        tasks: what it predicts: some of those that the frames have truths of; none named stands for all of them.
        decoder: "edge" (ours), "aspp" (the study's) or "aspp_folded" (the study's without the weights that only ever
            read padding at the run's largest size).
        pretrained: "imagenet" downloads timm's weights of the backbone, a path reads them from a local file,
            see `mtl.models.backbone.build_backbone`, or from the folder of a bundle whose tasks share one. However little is
            shared, every backbone begins with them.
        init: a checkpoint of this package (runs/<name>/best.safetensors), or the folder of a bundle, to start from:
            fine-tuning. Heads for other classes or new tasks start fresh, see `mtl.fine_tuning`.
        init_part: "all" of its weights, or those of its "backbone" only, for another decoder or other tasks; the backbone
            has to be the same, and shared in full.
        output_stride: 8 or 16 dilates a CNN's last stages (the study's ResNet: 8), 0 leaves them.
        normalisation: of the input; of 0..1, "imagenet" goes with most pretrained weights, "symmetric", which is
            -1..1, with those of EfficientNet-Lite and of TensorFlow; the study had none.
        depth_output: what the depth head says: "log" metres, or "linear" metres as in LibMTL (not with log losses).
        sharing: "full" shares the backbone, "partial" its first `shared_stages` (1 to 3), "separate" nothing; where less
            than everything is shared, every task has a single-task decoder of its own.
        exchange, checked, context, top_down, fine, last_stage_only, rays, slim: parts of the edge decoder, for ablations;
            see `mtl.models.edge.EdgeOptions`.
    """

    backbone: str = "pvt_v2_b0"
    decoder: Literal["edge", "aspp", "aspp_folded"] = "edge"
    width: int = 64
    tasks: tuple[str, ...] = tuple(NYU_TASKS)
    pretrained: str = ""
    init: str = ""
    init_part: Literal["all", "backbone"] = "all"
    drop_path: float = 0.0
    output_stride: int = 0
    normalisation: Literal["none", "imagenet", "symmetric"] = "none"
    depth_output: Literal["log", "linear"] = "log"
    sharing: Literal["full", "partial", "separate"] = "full"
    shared_stages: int = 2
    exchange: bool = False
    gated: bool = True
    context: bool = True
    top_down: bool = False
    fine: bool = False
    last_stage_only: bool = False
    rays: bool = False
    slim: bool = True


@dataclass(frozen=True, slots=True)
class DataSettings:
    """Where frames come from.

    Attributes:
        kind: "rooms" and "streets" (rendered), "nyuv2" (a folder in LibMTL's layout, see `mtl.datasets.nyuv2`), "folder"
            (one's own images, see `mtl.datasets.folder`), "coco", "ade20k", "imagenet", "bdd100k", "cityscapes" (as published),
            or another data set of `mtl.datasets.sources`.
        root: folder of rendered rooms, one sub-folder per size, missing frames are rendered into it; or the data set's folder.
            Left at data/rooms, NYUv2 is looked for in data/nyuv2.
        canonical: whether depth and normals are learnt and judged for the canonical camera (decision 0002), so that the
            focal length does not matter; false: for the frames' own camera, as the study did.
        validation_from_train: NYUv2 and published data sets: how many training frames are set aside to choose the best
            weights by. The set is the same for every run seed. 0: "val" and "test" mean the same held-out frames where there
            are no others (NYUv2: the 654 test frames, as in LibMTL).
        height, width: size at which rooms are rendered where a stage names none; also the size of validation and test.
        train, validation, test: how many rooms of each split; NYUv2 and a folder always have all their frames.
        workers: processes that render missing rooms.
        sources: several data sets in one run, by names of one's own (decision 0018); each is described as here, takes `height`,
            `width`, `train`, `validation` and `test` from here where it names none, and has a `ratio`. Empty: one data set.
        deploy_source: the source whose statistics an exported network has after `optimizer.batch_norm` "per_source"; empty
            for that with the largest ratio in the last stage.
        depth_step_m: the steps that its depth was stored in, in metres; a prediction within half a step of a training frame's
            depth is not wrong, one outside is as far off as from the nearer end. 0: depth is as exact as it is written.
        tasks: rooms and NYUv2, what frames have truths of: some of `mtl.datasets.rooms.tasks.ROOM_TASKS`, of NYUv2 all but
            "scene". None named stands for the three dense ones, and those of `model.tasks` are added when settings are read.
        task_names: published data sets: by the name that a task has there, its name in this run; sources whose tasks have the
            same name and the same classes label one task.
        may_skip: of these: the share of boxes, and of images, that may be left out because they cannot be used; 0: none, and
            the first one is an error.
        annotations: COCO's format only: by split, its JSON below `root`, where several could be meant.
        unlabelled: a folder only, whether its training frames without any label are trained on too; they teach where there
            is a teacher (`distill`).
        disjoint: tasks of which each training frame shows the truth of one only, as if every task had been labelled on images
            of its own; two or more, or none.
        conditions: streets only: the kinds of scene, weather and time of day that there are; of a group none of which is
            named, all (`mtl.datasets.streets.classes`).
    """

    kind: str = "rooms"
    root: str = DEFAULT_ROOT
    canonical: bool = True
    validation_from_train: int = 0
    height: int = 96
    width: int = 128
    train: int = 1200
    validation: int = 64
    test: int = 200
    workers: int = 2
    sources: Mapping[str, SourceSettings] = field(default_factory=dict)
    deploy_source: str = ""
    depth_step_m: float = 0.0
    task_names: Mapping[str, str] = field(default_factory=dict)
    may_skip: float = 0.0
    annotations: Mapping[str, str] = field(default_factory=dict)
    unlabelled: bool = False
    tasks: tuple[str, ...] = ()
    disjoint: tuple[str, ...] = ()
    conditions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SourceSettings(DataSettings):
    """One source of a mixture.

    Attributes:
        ratio: of how many batches it gives, relative to the other sources.
        weights: by task, how far its truths are trusted: its losses are multiplied by these, on top of `losses.weights`; 1
            where none is given, 0 leaves a truth out.
    """

    ratio: float = 1.0
    weights: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stage:
    """One leg of the resolution curriculum.

    Attributes:
        height, width: of the network's input, multiples of 32.
        steps: optimisation steps; computed where `epochs` is given.
        batch: frames a step, of all processes together.
        render_height, render_width: size of the rooms that feed it (0: `data.height`, `data.width`); larger rooms are
            reduced, by area for the image and by nearest pixel for the targets.
        train: how many training rooms (0: `data.train`).
        weights: of the losses in this leg, by task; those of `losses` where a task is not named.
        epochs: passes over the training frames instead of `steps`; frames that fill no batch at the end of a pass are
            the first of the next one. A pass over several sources is as many frames as all of them have.
        ratios: of the sources in this leg, by name, in place of their own; 0 leaves a source out.
    """

    height: int
    width: int
    steps: int = 0
    batch: int = 8
    render_height: int = 0
    render_width: int = 0
    train: int = 0
    weights: Mapping[str, float] = field(default_factory=dict)
    epochs: int = 0
    ratios: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OptimizerSettings:
    """How weights follow gradients.

    Attributes:
        name: "adamw" decays matrices and kernels, apart from the gradient; "adam" adds the decay of every parameter to its
            gradient (PyTorch's Adam, the study's).
        schedule: after linear warm-up over a share `warmup` of all steps, "cosine" decays to `lr * floor` at the end of
            all stages together, "step" halves the rate every 100 passes over the training frames, "constant" stays.
        clip: longest gradient, 0 for any.
        batch_norm: "local" takes statistics of each process's part of a batch, "synced" of the whole batch (GPUs only),
            "frozen" keeps those that the model began with. "per_source" is "local" with running statistics of every source
            of `data.sources` kept apart.
    """

    name: Literal["adamw", "adam"] = "adamw"
    schedule: Literal["cosine", "constant", "step"] = "cosine"
    lr: float = 1e-3
    weight_decay: float = 0.02
    betas: tuple[float, float] = (0.9, 0.98)
    warmup: float = 0.06
    floor: float = 0.005
    clip: float = 5.0
    batch_norm: Literal["local", "synced", "frozen", "per_source"] = "local"


@dataclass(frozen=True, slots=True)
class EmaSettings:
    """Moving average of the weights, which is what is evaluated and exported; decay 0 uses the weights as they are."""

    decay: float = 0.998


@dataclass(frozen=True, slots=True)
class LossSettings:
    """Losses and their weights.

    Attributes:
        weights: fixed weights by task, 1 where none is given; every weighting sees the losses times these. In files and on
            the command line `losses.depth` means `losses.weights.depth`, and so for the study's other tasks and in stages.
        weighting: how the losses become one gradient; "fixed" adds them. See `mtl.weighting` for the methods, the papers
            they come from and the packages that some need.
        depth_kind: "log_l1" |ln p - ln g|, "relative_l1" |p - g| / g, "l1" |p - g| in metres (the study's).
        normal_kind: "cosine" 1 - cosine, "dot" 1 - p.g with p of unit length and g as it is (the study's).
        class_weights: weigh classes by the inverse root of their frequency in the training frames.
        label_smoothing: of the cross-entropy.
        supervision: "full" upsamples predictions to every pixel; "phase" supervises, each step, one random pixel of
            every stride x stride cell with the same upsampling: the same loss in expectation at a fraction of the cost.
    """

    weights: Mapping[str, float] = field(default_factory=dict)
    weighting: Weighting = "fixed"
    depth_kind: DepthLoss = "log_l1"
    normal_kind: NormalLoss = "cosine"
    class_weights: bool = False
    label_smoothing: float = 0.0
    supervision: Supervision = "phase"

    def weight_of(self, task: str) -> float:
        """The fixed weight of a task."""
        return self.weights.get(task, 1.0)


@dataclass(frozen=True, slots=True)
class LoopSettings:
    """How the run is driven; these may change when a run is resumed.

    Attributes:
        device: "auto" is the GPU if PyTorch sees one; of several, each process takes its own.
        threads: of PyTorch, 0 for all cores that this process may use.
        loader_workers: processes that prepare batches, per training process, 0 for none.
        precision: "bf16" is autocast; "auto" is that where the device multiplies bfloat16 in hardware, and "fp32" elsewhere,
            where it takes many times as long.
        compile: the network through `torch.compile`.
        deterministic: only operations that give the same bits every time, or an error where there is none.
        accumulate: parts that a process computes its batch in, one after the other; their gradients are added up.
        evaluate_every: steps between evaluations on the validation rooms, 0 for once per pass over the training rooms.
        checkpoint_s: seconds between resumable checkpoints.
        pictures: validation rooms drawn after every evaluation, 0 for none.
        cosine_every: steps between records of the angles between the tasks' gradients, 0 for none.
        test_at_end: measure the last and the best weights on the test split when training ends.
        tensorboard: also write event files for TensorBoard, beside metrics.jsonl.
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"

    threads: int = 0
    loader_workers: int = 1
    precision: Precision = "auto"
    channels_last: bool = True
    compile: bool = False
    deterministic: bool = False
    accumulate: int = 1
    evaluate_every: int = 0
    checkpoint_s: float = 120.0
    pictures: int = 6
    cosine_every: int = 0
    test_at_end: bool = False
    tensorboard: bool = False


@dataclass(frozen=True, slots=True)
class BoxesSettings:
    """Which boxes of one task a bundle answers, see `edge_mtl.tasks.BoxesSpec`; 0 leaves what the data set or the bundle says.

    Attributes:
        score: the least that is answered.
        nms_iou: of two boxes of one class that overlap by more, one is answered.
        most: boxes of a frame.
    """

    score: float = 0.0
    nms_iou: float = 0.0
    most: int = 0


@dataclass(frozen=True, slots=True)
class ExportSettings:
    """What the bundle holds: calibration frames (train split), labelled and golden frames (test split).

    Attributes:
        evaluation_sparse: labelled frames for tasks of which a frame gives few answers to measure, boxes and classes of frames,
            where there are any; beyond the first `evaluation` they have truths of these tasks alone.
        embed_images: "auto" embeds images of the data set where its terms allow passing them on, and otherwise statistics of
            the calibration frames and rendered rooms; "always" embeds them, on your own responsibility; "never" does not.
        boxes: by task of boxes, which of them are answered; nothing of it decides what is learnt.
    """

    folder: str = "bundles"
    calibration: int = 32
    evaluation: int = 24
    evaluation_sparse: int = 120
    golden: int = 3
    jpeg_quality: int = 92
    embed_images: Literal["auto", "always", "never"] = "auto"
    boxes: Mapping[str, BoxesSettings] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class QatSettings:
    """Fine-tuning with the rounding of integers in the loop; `train.py --qat` turns it on, see `mtl.qat.settings`.

    Attributes:
        enabled: whether this run is one.
        target: whose Q/DQ placement is trained with: uint8 activations for CPUs, int8 around zero for TensorRT.
        recipe: a file as those in `edge_mtl/quantization/recipes`; empty for the package's own for the target.
        ranges: "learned" by gradients (LSQ), "ema" follow the batches' extremes, "fixed" stay as calibrated.
        calibration: frames of the train split that the first ranges come from.
        steps: of the fine-tuning, at the size of the last stage.
        lr: its learning rate, in place of `optimizer.lr`.
        teacher: share of the loss, 0..1, that is the distance from the answers of the network it began with, without rounding;
            the rest is the distance from the labels.
    """

    enabled: bool = False
    target: QatTarget = "onnxruntime"
    recipe: str = ""
    ranges: QatRanges = "learned"
    calibration: int = 32
    steps: int = 600
    lr: float = 1e-4
    teacher: float = 1.0


@dataclass(frozen=True, slots=True)
class DistillSettings:
    """Networks that teach while training; see `mtl.distill`. They are needed until training ends, and never exported.

    Attributes:
        answers: a checkpoint of this package or the folder of a bundle, whose answers on the same view are learnt; empty for
            none. It teaches the tasks that it has with the same meaning, on frames without truth too.
        graph: an ONNX graph in place of both kinds of teachers, which says what its outputs mean (`mtl.distill.graph_notes`):
            answers of tasks of labels, as those of `answers`, and features, as those of `features`; empty for none.
        graph_precision: "auto" runs it in bfloat16 where processor and OpenVINO can, "fp32" exactly.
        sources: of a mixture, those whose frames it teaches on; empty for all. One that saw real images knows no rendered ones.
        weights: by task, of the distance from its answers, beside that from the truth; 1 where none is given, 0 for none.
        temperature: that softens the probabilities of its labels (Hinton et al. 2015, arXiv:1503.02531).
        features: timm's name of a backbone whose features the backbone learns to predict (FitNets: Romero et al. 2015,
            arXiv:1412.6550); empty for none.
        features_file: its weights: timm's own in a local file, or EfficientNet-Lite's as published for PyTorch.
        features_normalisation: of its input, as in `ModelSettings.normalisation`; empty for what timm states.
        features_weight: of that loss, beside the weighted losses of the tasks.
    """

    answers: str = ""
    graph: str = ""
    graph_precision: GraphPrecision = "auto"
    sources: tuple[str, ...] = ()
    weights: Mapping[str, float] = field(default_factory=dict)
    temperature: float = 1.0
    features: str = ""
    features_file: str = ""
    features_normalisation: Literal["", "none", "imagenet", "symmetric"] = ""
    features_weight: float = 1.0


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
    qat: QatSettings = field(default_factory=QatSettings)
    distill: DistillSettings = field(default_factory=DistillSettings)

    @property
    def steps(self) -> int:
        """Steps of all stages together."""
        return sum(stage.steps for stage in self.stages)

    def start_of(self, index: int) -> int:
        """The step that stage `index` begins with."""
        return sum(stage.steps for stage in self.stages[:index])

    def stage_at(self, step: int) -> int:
        """Index of the stage that step number `step` (from 0) belongs to; the last one beyond the end."""
        end = 0
        for index, stage in enumerate(self.stages):
            end += stage.steps
            if step < end:
                return index
        return len(self.stages) - 1
