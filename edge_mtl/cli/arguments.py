"""Arguments and options that several commands share, with one meaning each, and the checks of their values.

An option means the same everywhere: --out is a folder, --save a file, --json prints JSON. Importing this starts no runtime.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from edge_mtl.bundle import BUNDLED
from edge_mtl.tasks import KINDS, BudgetItem

if TYPE_CHECKING:
    from edge_mtl.calibration.sampling import Embedding
    from edge_mtl.evaluation.budget import Budget

__all__ = [
    "MAX_DROP",
    "BackendOption",
    "Bf16Option",
    "BitsOption",
    "BundleArgument",
    "BundleOption",
    "CountOption",
    "DeviceOption",
    "EmbeddingOption",
    "EngineOptions",
    "EveryOption",
    "Fp16Option",
    "Fp32Option",
    "Int8Option",
    "JsonOption",
    "LimitOption",
    "MaxDropOption",
    "PrecisionOption",
    "QuietOption",
    "RecipeOption",
    "SeedOption",
    "ThreadsOption",
    "ThresholdOption",
    "TopicOption",
    "UsageError",
    "block",
    "check_backend",
    "check_choice",
    "check_precision",
    "named_precisions",
    "parse_budget",
    "parse_embedding",
    "parse_intrinsics",
    "parse_min_score",
    "parse_names",
    "the_precision",
]


class UsageError(Exception):
    """The arguments fit the command's types but make no sense."""


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Which engine a command is asked to use: where the bundle is, and what to run it with."""

    bundle: Path | None
    backend: str = "auto"
    precision: str = "auto"
    threads: int | None = None
    device: str = "auto"


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


_BUNDLE_HELP = (
    f"Folder of the bundle, or the name of one that is installed ({', '.join(BUNDLED)}); default: $EDGE_MTL_BUNDLE, else the "
    "newest in ./bundles, else the demo bundle."
)
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
QuietOption = Annotated[bool, typer.Option("--quiet", help="No progress and no remarks; results, warnings and errors stay.")]
Int8Option = Annotated[bool, typer.Option("--int8", help="--precision int8: 8-bit integers, calibrated.")]
Fp32Option = Annotated[bool, typer.Option("--fp32", help="--precision fp32: full precision.")]
Fp16Option = Annotated[bool, typer.Option("--fp16", help="--precision fp16: half precision.")]
Bf16Option = Annotated[bool, typer.Option("--bf16", help="--precision bf16: bfloat16, where the processor has it.")]
LimitOption = Annotated[int | None, typer.Option("--limit", metavar="N", min=1, help="Stop after this many frames.")]

ThresholdOption = Annotated[
    float,
    typer.Option(
        "--threshold",
        metavar="SHARE",
        min=0.0,
        max=0.99,
        help="How much slower, against the reference of its own run, is still fine: 0.05 is five per cent.",
    ),
]


def _budgets(*, labelled: bool) -> list[BudgetItem]:
    return [item for kind in KINDS.values() for item in kind.budgets if item.labelled is labelled]


def _named(items: list[BudgetItem]) -> str:
    return ", ".join(f"{item.name} ({'degrees' if item.unit == '°' else 'a share'})" for item in items)


_MAX_DROP_HELP = (
    f"What a graph may lose against FP32 where frames are labelled: {_named(_budgets(labelled=True))}; and by how much it may "
    f"differ from FP32 anywhere: {_named(_budgets(labelled=False))}. TASK.NAME is of one task only. What is not named keeps "
    "its default. none: any loss is taken, with a warning."
)
MaxDropOption = Annotated[str, typer.Option("--max-drop", metavar="LIST", help=_MAX_DROP_HELP)]
MAX_DROP = ",".join(f"{item.name}={item.default:g}" for item in (*_budgets(labelled=True), *_budgets(labelled=False)))
"""The defaults of all kinds, as help shows them."""
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
BitsOption = Annotated[
    int, typer.Option("--bits", metavar="N", min=8, max=16, help="Of images with 16 bits a channel: how many the camera fills.")
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


def named_precisions(*, int8: bool, fp32: bool, fp16: bool, bf16: bool) -> list[str]:
    """The precisions whose short forms were given."""
    given = (("int8", int8), ("fp32", fp32), ("fp16", fp16), ("bf16", bf16))
    return [name for name, chosen in given if chosen]


def the_precision(precision: str, *, int8: bool, fp32: bool, fp16: bool, bf16: bool) -> str:
    """What --precision or a short form of it says. Raises UsageError where both do, and do not agree."""
    chosen = named_precisions(int8=int8, fp32=fp32, fp16=fp16, bf16=bf16)
    if precision != "auto" and precision not in chosen:
        chosen.append(precision)
    if len(chosen) > 1:
        raise UsageError(f"expected one precision; found {' and '.join(chosen)}.")
    return chosen[0] if chosen else "auto"


def parse_names(option: str, text: str) -> tuple[str, ...]:
    """Names with commas between, each once. Raises UsageError where one is empty."""
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    if not all(names):
        raise UsageError(f"{option} expects names with commas between; found {text!r}.")
    return names


def parse_min_score(option: str, text: str) -> float | dict[str, float]:
    """A score, or scores by task: "0.5" or "objects=0.5,signs=0.4". Raises UsageError."""
    parts = [part.partition("=") for part in text.split(",")]
    try:
        if len(parts) == 1 and not parts[0][1]:
            return float(text)
        found = {name.strip(): float(value) for name, _, value in parts}
    except ValueError:
        found = {}
    if len(found) < len(parts) or not all(found):
        raise UsageError(f"{option} expects a number such as 0.5, or numbers by task such as objects=0.5; found {text!r}.")
    return found


def parse_intrinsics(text: str | None) -> tuple[float, float, float, float] | None:
    """(fx, fy, cx, cy) from four numbers with commas between. Raises UsageError where they make no camera."""
    if text is None:
        return None
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) != 4 or not all(map(math.isfinite, values)) or min(values[:2]) <= 0:
        raise UsageError(
            f"--intrinsics expects fx,fy,cx,cy in pixels with fx, fy > 0, such as 525,525,319.5,239.5; found {text!r}."
        )
    return cast("tuple[float, float, float, float]", values)


def parse_budget(text: str) -> Budget | None:
    """What --max-drop says; None for "none". Raises UsageError."""
    from edge_mtl.evaluation.budget import DEFAULT_BUDGET, Budget

    if text == MAX_DROP:
        return DEFAULT_BUDGET
    if text.strip().lower() == "none":
        return None
    try:
        return Budget.parse(text)
    except ValueError as exc:
        raise UsageError(f"--max-drop: {exc}; or say none.") from exc


def parse_embedding(text: str) -> Embedding:
    return "network" if check_choice("--embedding", text, ("network", "colour")) == "network" else "colour"
