"""Arguments and options that several commands share, and the checks of their values. Starts nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from edge_mtl.build.frame_choice.choose import Embedding
    from edge_mtl.build.gate.budget import Budget

__all__ = [
    "MAX_DROP",
    "MAX_DROP_BUILD_HELP",
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
    "parse_budget",
    "parse_budget_or_none",
    "parse_embedding",
]

_BUNDLE_HELP = "Folder of the bundle; default: $EDGE_MTL_BUNDLE, else the newest in ./bundles, else the demo bundle."
BundleArgument = Annotated[Path | None, typer.Argument(metavar="[BUNDLE]", help=_BUNDLE_HELP, show_default=False)]
BundleOption = Annotated[Path | None, typer.Option("--bundle", metavar="DIR", help=_BUNDLE_HELP, show_default=False)]
BackendOption = Annotated[
    str, typer.Option("--backend", metavar="NAME", help="auto, onnxruntime, openvino, onnxruntime-cuda or tensorrt.")
]
DeviceOption = Annotated[
    str, typer.Option("--device", metavar="NAME", help="auto, cpu, cuda, or cuda:N for the GPU with that number.")
]
PrecisionOption = Annotated[
    str, typer.Option("--precision", metavar="NAME", help="auto, or a precision that an engine was built with.")
]
ThreadsOption = Annotated[
    int | None, typer.Option("--threads", metavar="N", min=1, max=1024, help="Threads of the runtime; default: one per core.")
]
MAX_DROP_BUILD_HELP = "What an engine may lose against FP32, or it is not built; none: it is, with a warning."
JsonOption = Annotated[bool, typer.Option("--json", help="JSON on standard output, and nothing else there.")]

_MAX_DROP_HELP = (
    "What a graph may lose against FP32 where frames are labelled: miou (0..1), rel (share of the true depth), normal "
    "(degrees); and by how much it may differ from FP32 anywhere: classes=0.05, depth=0.05, angle=3."
)
MaxDropOption = Annotated[str, typer.Option("--max-drop", metavar="LIST", help=_MAX_DROP_HELP)]
MAX_DROP = "miou=0.01,rel=0.02,normal=0.5"
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


class UsageError(Exception):
    """The arguments fit the command's types but make no sense."""


def block(title: str, *lines: str) -> str:
    """A paragraph of help that is not re-wrapped."""
    return "\n".join(("\b", title, *(f"  {line}" for line in lines)))


def parse_budget(text: str) -> Budget:
    from edge_mtl.build.gate.budget import Budget

    try:
        return Budget.parse(text)
    except ValueError as exc:
        raise UsageError(f"--max-drop: {exc}") from exc


def parse_budget_or_none(text: str) -> Budget | None:
    return None if text.strip().lower() == "none" else parse_budget(text)


def parse_embedding(text: str) -> Embedding:
    if text not in ("network", "colour"):
        raise UsageError(f"--embedding should be network or colour; found {text!r}.")
    return "network" if text == "network" else "colour"
