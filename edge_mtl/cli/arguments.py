"""Arguments and options that several commands share, and the checks of their values. Starts nothing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from edge_mtl.calibration.sampling import Embedding
    from edge_mtl.evaluation.budget import Budget

__all__ = [
    "MAX_DROP",
    "BackendOption",
    "BundleArgument",
    "BundleOption",
    "CountOption",
    "DeviceOption",
    "EmbeddingOption",
    "EveryOption",
    "JsonOption",
    "MaxDropOption",
    "PrecisionOption",
    "RecipeOption",
    "SeedOption",
    "ThreadsOption",
    "TopicOption",
    "UsageError",
    "block",
    "check_backend",
    "check_choice",
    "check_precision",
    "parse_budget",
    "parse_embedding",
]


class UsageError(Exception):
    """The arguments fit the command's types but make no sense."""


def check_backend(name: str) -> str:
    """`name` if it is "auto" or that of a backend. Raises UsageError."""
    from edge_mtl.backends import BACKENDS

    return check_choice("--backend", name, ("auto", *BACKENDS))


def check_precision(name: str) -> str:
    """`name` if it is "auto" or a precision that an engine can have. Raises UsageError."""
    from edge_mtl.backends import PRECISIONS

    return check_choice("--precision", name, ("auto", *PRECISIONS))


def _check_device(name: str) -> str:
    if re.fullmatch(r"auto|cpu|cuda(:[0-9]+)?", name) is None:
        raise UsageError(f"--device should be auto, cpu, cuda or cuda:N with a number; found {name!r}.")
    return name


def check_choice(option: str, name: str, names: Sequence[str]) -> str:
    """`name` if it is one of `names`. Raises UsageError."""
    if name not in names:
        raise UsageError(f"{option} should be one of {', '.join(names)}; found {name!r}.")
    return name


_BUNDLE_HELP = "Folder of the bundle; default: $EDGE_MTL_BUNDLE, else the newest in ./bundles, else the demo bundle."
BundleArgument = Annotated[Path | None, typer.Argument(metavar="[BUNDLE]", help=_BUNDLE_HELP, show_default=False)]
BundleOption = Annotated[Path | None, typer.Option("--bundle", metavar="DIR", help=_BUNDLE_HELP, show_default=False)]
BackendOption = Annotated[
    str,
    typer.Option(
        "--backend",
        metavar="NAME",
        help="auto, or a runtime by name: onnxruntime, openvino, onnxruntime-cuda, tensorrt, or a plug-in's.",
        callback=check_backend,
    ),
]
DeviceOption = Annotated[
    str,
    typer.Option(
        "--device", metavar="NAME", help="auto, cpu, cuda, or cuda:N for the GPU with that number.", callback=_check_device
    ),
]
PrecisionOption = Annotated[
    str,
    typer.Option(
        "--precision",
        metavar="NAME",
        help="auto, fp32, or a precision that an engine was built with; tf32 needs onnxruntime-cuda.",
        callback=check_precision,
    ),
]
ThreadsOption = Annotated[
    int | None,
    typer.Option("--threads", metavar="N", min=1, max=1024, help="Threads of the runtime; default: one per physical core."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON on standard output, and nothing else there.")]

_MAX_DROP_HELP = (
    "What a graph may lose against FP32 where frames are labelled: miou (0..1), rel (share of the true depth), normal "
    "(degrees); and by how much it may differ from FP32 anywhere: classes and depth (shares), angle (degrees). What is not "
    "named keeps its default. none: any loss is taken, with a warning."
)
MaxDropOption = Annotated[str, typer.Option("--max-drop", metavar="LIST", help=_MAX_DROP_HELP)]
MAX_DROP = "miou=0.01,rel=0.02,normal=0.5,classes=0.05,depth=0.05,angle=3"
CountOption = Annotated[
    int | None, typer.Option("--count", metavar="N", min=1, max=4096, help="Frames to choose; default: as the recipe says.")
]
SeedOption = Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Decides on the first frame.")]
EmbeddingOption = Annotated[
    str, typer.Option("--embedding", metavar="NAME", help="What distance means: network, or colour (faster, no runtime).")
]
TopicOption = Annotated[
    str | None, typer.Option("--topic", metavar="NAME", help="Of the bag's images, where it has several.", show_default=False)
]
RecipeOption = Annotated[
    Path | None,
    typer.Option("--recipe", metavar="FILE", help="How to quantize, TOML; default: the bundle's own, else the package's."),
]
EveryOption = Annotated[
    int, typer.Option("--every", metavar="N", min=1, max=1_000_000, help="Take every N-th frame of a video or bag.")
]


def block(title: str, *lines: str) -> str:
    """A paragraph of help that is not re-wrapped."""
    return "\n".join(("\b", title, *(f"  {line}" for line in lines)))


def parse_budget(text: str) -> Budget | None:
    """What --max-drop says; None for "none". Raises UsageError."""
    from edge_mtl.evaluation.budget import Budget

    if text.strip().lower() == "none":
        return None
    try:
        return Budget.parse(text)
    except ValueError as exc:
        raise UsageError(f"--max-drop: {exc}; or say none.") from exc


def parse_embedding(text: str) -> Embedding:
    return "network" if check_choice("--embedding", text, ("network", "colour")) == "network" else "colour"
