"""Other people's checkpoints as checkpoints of this package: read as data, matched weight for weight, or refused.

Knows files and how names are matched (`foreign_names` has the names); knows nothing about the command line.
"""

from __future__ import annotations

import dataclasses
import difflib
import io
import json
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load as load_tensors
from torch import Tensor

from edge_mtl.errors import BuildError
from edge_mtl.files import sha256_bytes, write_atomic
from edge_mtl.tasks import NYU_TASKS
from mtl.checkpoint import CheckpointError, save_weights
from mtl.config import describe
from mtl.datasets.augment_settings import AugmentSettings
from mtl.foreign_names import TASKS_OF_LIBMTL, backbone_names, head_names, is_passing, split_libmtl
from mtl.models import MultiTaskModel, model_from
from mtl.models.backbone import PVT_V2_NAMES, build_backbone
from mtl.settings import DataSettings, LossSettings, ModelSettings, RunSettings, Stage

__all__ = ["ImportMismatch", "Imported", "import_weights", "read_weights", "turn_normals", "write_run"]

_RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101")
_CONTAINERS = ("state_dict", "model", "model_state_dict", "net")
_WRAPPERS = ("model.", "module.", "net.", "network.")
_COMPILED = "_orig_mod."
"""What torch.compile puts before the names of a module's weights, at any depth."""
_SHOWN = 5
_NORMALS = TASKS_OF_LIBMTL["normal"]


class ImportMismatch(CheckpointError):
    """Weights of a file and of the model do not match one to one.

    Attributes:
        unmatched: names in the file that the model has no place for.
        missing: names in the model (as the file would call them where that is known) that the file does not have.
    """

    def __init__(self, what: str, unmatched: Sequence[str], missing: Sequence[str]) -> None:
        self.unmatched, self.missing = tuple(unmatched), tuple(missing)
        parts = []
        if unmatched:
            parts.append(f"{len(unmatched)} weights have no place: {_listed(unmatched, missing)}")
        if missing:
            parts.append(f"{len(missing)} are not in the file: {_listed(missing, unmatched)}")
        if wrapper := next((one for one in _WRAPPERS if _most_begin_with(one, unmatched)), ""):
            parts.append(f"names in the file begin with {wrapper!r}: save the weights of what it holds alone")
        super().__init__(f"{what}: {'; '.join(parts)}. Name the network with --backbone, or rename the weights")


@dataclass(frozen=True, slots=True)
class Imported:
    """A model with the weights of a file.

    Attributes:
        settings: by which `train/export.py` builds the same model again.
        source: "libmtl" (encoder and decoders) or "backbone" (the decoder has not learnt anything).
        left: names in the file that the model needs not: a classifier, loss weights.
    """

    model: MultiTaskModel
    settings: RunSettings
    source: Literal["libmtl", "backbone"]
    left: tuple[str, ...]


def read_weights(path: Path, *, on_remark: Callable[[str], None] | None = None) -> dict[str, Tensor]:
    """A state dict from a .safetensors file or from what `torch.save` wrote; no code in it is run.

    Names are those of the network: what torch.compile, DataParallel, Lightning and other wrappers put before all of them is
    taken away.

    Args:
        on_remark: called with a sentence that names the prefix, where there was one.
    Raises:
        CheckpointError: missing, corrupt, or a pickle of anything but tensors and plain containers.
    """
    try:
        payload = path.read_bytes()
    except OSError as exc:
        raise CheckpointError(f"{path} cannot be read ({exc.strerror}). Give a .pt, .pth or .safetensors file") from exc
    try:
        content = load_tensors(payload) if path.suffix == ".safetensors" else _load(payload)
    except pickle.UnpicklingError as exc:
        raise CheckpointError(
            f"{path} is refused: it holds code or objects, not only weights. Where you trust it, save its weights alone: "
            "torch.save(model.state_dict(), FILE)"
        ) from exc
    except Exception as exc:  # damaged archives raise many kinds
        line = (str(exc).strip().splitlines() or [type(exc).__name__])[0][:120]
        raise CheckpointError(f"{path} is corrupt or no checkpoint ({line}). Give a .pt, .pth or .safetensors file") from exc
    weights = _tensors(content)
    if not weights:
        raise CheckpointError(f"{path} holds no weights. Save them with torch.save(model.state_dict(), FILE)")
    inner = {name.replace(_COMPILED, ""): value for name, value in weights.items()}
    prefix = _common_prefix(list(inner))
    if on_remark is not None and (prefix or inner.keys() != weights.keys()):
        removed = prefix or _COMPILED
        on_remark(f"{path}: {removed!r} was taken from the names of its weights")
    return {name.removeprefix(prefix): value for name, value in inner.items()}


def import_weights(
    weights: Mapping[str, Tensor],
    *,
    name: str,
    backbone: str = "",
    decoder: Literal["edge", "aspp"] = "edge",
    tasks: Sequence[str] = tuple(NYU_TASKS),
    size: tuple[int, int] = (288, 384),
) -> Imported:
    """The model that has these weights.

    Args:
        weights: of `read_weights`.
        name: of the run that is made of it.
        backbone: timm's name; found by comparing names and shapes where it is not given.
        decoder, tasks: of a model for a backbone alone; LibMTL's has its own.
        size: (H, W) of the input.
    Raises:
        ImportMismatch: weights without a place, or places without a weight, with the nearest names.
        BuildError: an unknown backbone.
    """
    encoder, heads, others = split_libmtl(weights)
    left = [other for other in others if is_passing(other)]
    unknown = [f"decoders.{task}" for task in heads if task not in TASKS_OF_LIBMTL]
    if unknown:
        raise ImportMismatch("the tasks are not ours", unknown, [f"decoders.{task}" for task in TASKS_OF_LIBMTL])
    renamed, classifier = backbone_names(encoder)
    left += classifier
    shapes = {ours: tuple(weights[origin].shape) for ours, origin in renamed.items()}
    found = _nearest_backbone(shapes, backbone)
    told = [TASKS_OF_LIBMTL[task] for task in heads]
    settings = _settings(name, found, "aspp" if heads else decoder, told or tasks, size, whole=bool(heads))
    model = model_from(settings, pretrained=False).eval()
    ours = {f"backbone.net.{inner}": origin for inner, origin in renamed.items()}
    for task, names in heads.items():
        ours |= {f"decoder.heads.{TASKS_OF_LIBMTL[task]}.{inner}": origin for inner, origin in head_names(names).items()}
    wanted = {
        key: value
        for key, value in model.state_dict().items()
        if (heads or key.startswith("backbone.")) and not key.endswith("num_batches_tracked")
    }
    given = {key: origin for key, origin in ours.items() if not key.endswith("num_batches_tracked")}
    fits = {key for key, origin in given.items() if key in wanted and wanted[key].shape == weights[origin].shape}
    unmatched = [origin for key, origin in given.items() if key not in fits] + [one for one in others if one not in left]
    missing = [key for key in wanted if key not in fits]
    if unmatched or missing:
        raise ImportMismatch(f"the file is not {found}{' with ASPP heads' if heads else ''}", unmatched, missing)
    model.load_state_dict({key: weights[given[key]].float() for key in fits}, strict=False)
    return Imported(model, settings, "libmtl" if heads else "backbone", tuple(left))


def turn_normals(model: MultiTaskModel, axes: str) -> None:
    """Let an ASPP model say its normals in other axes: "x,-y,-z" negates what it says of y and z.

    Copies of NYUv2 disagree about the direction of their axes; ours are x right, y down, z forward.

    Raises:
        BuildError: not each of x, y, z once, or no head for normals.
    """
    words = [word.strip() for word in axes.split(",")]
    order = ["xyz".find(word.lstrip("+-")) if word.lstrip("+-") else -1 for word in words]
    if sorted(order) != [0, 1, 2] or _NORMALS not in model.tasks:
        raise BuildError(f"normals {axes!r}: expected each of x, y, z once, such as x,-y,-z, and a model that has normals")
    signs = torch.tensor([-1.0 if word.startswith("-") else 1.0 for word in words])
    (layer,) = model.last_layers()[_NORMALS]
    with torch.no_grad():
        layer.weight.copy_(layer.weight[order] * signs[:, None, None, None])
        layer.bias.copy_(layer.bias[order] * signs)


def write_run(imported: Imported, folder: Path, *, origin: Path) -> Path:
    """Write `folder`/best.safetensors, which `train/export.py` and `model.init` take; its path."""
    settings = imported.settings
    stage = settings.stages[-1]
    described = describe(settings)
    metadata: dict[str, Any] = {
        "config": described,
        "step": 0,
        "size": [stage.height, stage.width],
        "imported": {"file": origin.name, "sha256": sha256_bytes(origin.read_bytes()), "source": imported.source},
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / "config.json", (json.dumps(described, indent=2, sort_keys=True) + "\n").encode())
    except OSError as exc:
        raise CheckpointError(f"{folder} cannot be written ({exc.strerror}). Choose another --out") from exc
    path = folder / "best.safetensors"
    save_weights(path, imported.model.state_dict(), metadata)
    return path


def _load(payload: bytes) -> Any:
    return torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)


def _tensors(content: Any) -> dict[str, Tensor]:
    """The state dict in what a file holds: itself, or what it keeps under a usual name."""
    if not isinstance(content, Mapping):
        return {}
    tensors = {name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, Tensor)}
    inner = next((content[name] for name in _CONTAINERS if isinstance(content.get(name), Mapping)), None)
    return tensors if inner is None else _tensors(inner)


def _common_prefix(names: Sequence[str]) -> str:
    """What all names begin with, up to a dot and without the last part of any: "model." of "model.fc.bias", "model.norm"."""
    inner = [name.split(".")[:-1] for name in names]
    alike = takewhile(lambda parts: len(set(parts)) == 1, zip(*inner, strict=False))
    return "".join(f"{parts[0]}." for parts in alike)


def _most_begin_with(prefix: str, names: Sequence[str]) -> bool:
    return sum(name.startswith(prefix) for name in names) > 0.9 * len(names) > 0


def _nearest_backbone(shapes: Mapping[str, tuple[int, ...]], name: str) -> str:
    """The backbone (or the one named) whose weights are called and shaped most like these."""
    family = PVT_V2_NAMES if any(key.startswith("patch_embed.") for key in shapes) else _RESNETS
    given = {item for item in shapes.items() if not item[0].endswith("num_batches_tracked")}
    differing: dict[str, int] = {}
    for candidate in (name,) if name else family:
        with torch.device("meta"):
            net = build_backbone(candidate).net
        own = {(key, tuple(value.shape)) for key, value in net.state_dict().items() if not key.endswith("num_batches_tracked")}
        differing[candidate] = len(own ^ given)
        if differing[candidate] == 0:
            break
    return min(differing, key=differing.__getitem__)


def _settings(
    name: str, backbone: str, decoder: Literal["edge", "aspp"], tasks: Sequence[str], size: tuple[int, int], *, whole: bool
) -> RunSettings:
    """A run whose model is the imported one: LibMTL's protocol, or for a backbone alone ours with its normalisation."""
    model = ModelSettings(backbone=backbone, decoder=decoder, tasks=tuple(task for task in NYU_TASKS if task in tasks))
    settings = RunSettings(name=name, stages=(Stage(height=size[0], width=size[1], steps=1),), model=model)
    if not whole:
        return dataclasses.replace(settings, model=dataclasses.replace(model, normalisation="imagenet"))
    dilated = 8 if backbone in _RESNETS else 0
    return dataclasses.replace(
        settings,
        model=dataclasses.replace(model, depth_output="linear", output_stride=dilated),
        data=DataSettings(kind="nyuv2", canonical=False),
        augment=AugmentSettings(mode="none"),
        losses=LossSettings(depth_kind="l1", normal_kind="dot", supervision="full"),
    )


def _listed(names: Sequence[str], others: Sequence[str]) -> str:
    """The first names, each with the nearest of the others."""
    shown = []
    for name in names[:_SHOWN]:
        close = difflib.get_close_matches(name, others, n=1, cutoff=0.5)
        shown.append(f"{name} (nearest: {close[0]})" if close else name)
    return ", ".join(shown) + (", ..." if len(names) > _SHOWN else "")
