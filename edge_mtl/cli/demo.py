"""`edge-mtl demo`: from a bundle to an image and a benchmark, in one command."""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_mtl.cli.application import app
from edge_mtl.cli.arguments import MAX_DROP, QuietOption, UsageError, block, parse_budget
from edge_mtl.cli.benchmark import measure_and_show
from edge_mtl.cli.build_engine import build
from edge_mtl.cli.renamed import old_flag, renamed_path
from edge_mtl.cli.terminal import Terminal, one_line
from edge_mtl.errors import BundleError
from edge_mtl.files import write_atomic
from edge_mtl.tasks import kind_of

if TYPE_CHECKING:
    from edge_mtl.bench.report import BenchmarkReport
    from edge_mtl.bundle import Bundle
    from edge_mtl.engine import EngineInfo

__all__ = ["demo"]

_FRAMES = 3
_OF_SCIKIT_IMAGE = "comes with scikit-image. Install it with: pip install 'edge-mtl[demo]'"
_ROUNDS = 20


@app.command(
    short_help="From the demo bundle to an image and a benchmark.",
    epilog=block("Examples:", "edge-mtl demo", "edge-mtl demo --bundle bundles/rooms-b2 --save b2.png"),
)
def demo(
    save: Annotated[
        Path | None, typer.Option("--save", metavar="FILE", help="The image to write; default: out/demo.png.")
    ] = None,
    bundle: Annotated[
        Path | None,
        typer.Option(
            "--bundle", metavar="DIR", help="Folder or name of the bundle; default: the demo bundle.", show_default=False
        ),
    ] = None,
    quiet: QuietOption = False,
    out: Annotated[Path | None, old_flag("--out", "FILE")] = None,
) -> None:
    """From the demo bundle to an image and a benchmark.

    Builds the INT8 engine if this device has none, predicts on rooms with known answers and on a real photograph, draws
    everything into one image, and times the engines.
    """
    path = renamed_path("--out", out, "--save", save) or Path("out/demo.png")
    if path.suffix.lower() != ".png":
        raise UsageError(f"--save expects a file name that ends in .png; found {str(path)!r}.")
    _check_place(path)  # found out now, not after minutes of building
    from edge_mtl.bench.benchmark import BenchmarkConfig
    from edge_mtl.bench.collect_targets import TargetFilter
    from edge_mtl.bundle import DEMO_BUNDLE, MANIFEST, find
    from edge_mtl.engine import Engine
    from edge_mtl.engine_store.engines import EngineStore
    from edge_mtl.image.demo_figure import draw, notes
    from edge_mtl.image.encoding import encode_image
    from edge_mtl.sources.samples import labelled_samples, photograph, suits_photograph

    terminal = Terminal(quiet=quiet)
    found = find(DEMO_BUNDLE if bundle is None and (DEMO_BUNDLE / MANIFEST).is_file() else bundle)
    samples = labelled_samples(found, _FRAMES)
    real = photograph(found.manifest.tasks)
    if real is not None:
        samples.append(real)
    elif not samples:  # before minutes of building
        raise BundleError(
            f"There is nothing to show: {found.path} has no labelled frames, and the photograph "
            f"{_OF_SCIKIT_IMAGE if suits_photograph(found.manifest.tasks) else 'is of a garage. Export the bundle again'}"
        )
    if not EngineStore(found).is_built(precision="int8"):
        build(terminal, found, "int8", budget=parse_budget(MAX_DROP))
    targets, config = TargetFilter((found.path,)), BenchmarkConfig(rounds=_ROUNDS, brief=True)
    report, _ = measure_and_show(terminal, (found,), targets, config)
    if real is None and suits_photograph(found.manifest.tasks):
        terminal.note(f"No photograph: it {_OF_SCIKIT_IMAGE}")
    with Engine(found, precision="int8") as engine:
        predictions = [(sample, engine.predict(sample.pixels, intrinsics=sample.intrinsics)) for sample in samples]
        info = engine.info
    measured = _photograph(notes(*predictions[-1])) if real is not None else ""
    image = draw(
        predictions,
        title=f"edge_mtl: one camera frame → {_tasks(found)}",
        subtitle="  ·  ".join((found.name, *_engine_facts(info, report), _device_fact())),
        footnotes=[*_footnotes(found), *([measured] if measured else [])],
    )
    write_atomic(path, encode_image(image))
    if measured:
        terminal.show(measured)
    terminal.show(f"Image: {path}")


def _check_place(out: Path) -> None:
    """Whether the image could be written; nothing is. Raises OSError naming it."""
    if out.is_dir():
        raise IsADirectoryError(errno.EISDIR, "expected a file name for the image, found a folder", str(out))
    folder = next(parent for parent in out.absolute().parents if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as exc:
        raise OSError(exc.errno, f"the image cannot be written there: {exc.strerror}", str(out)) from exc


def _tasks(bundle: Bundle) -> str:
    return ", ".join(kind_of(spec).words(spec) for spec in bundle.manifest.tasks.values())


def _engine_facts(info: EngineInfo, report: BenchmarkReport) -> list[str]:
    from edge_mtl.backends import spec_of

    row = next((row for row in report.rows if row.engine_key == info.engine_key), None)
    facts = [f"{info.precision.upper().replace('BF16', 'bf16')} on {spec_of(info.backend).title}"]
    if report.disturbed:
        facts.append("not timed, others had too much of the machine")
    elif row is not None:
        facts.append(f"{row.p50_ms:.1f} ms per frame, {row.ratio:.1f}× FP32 in ONNX Runtime")
    return facts


def _device_fact() -> str:
    from edge_mtl.device import fingerprint

    device = fingerprint()
    name = (device.cpu_model or device.architecture).replace("(R)", "").replace("(TM)", "")
    return f"{one_line(name)}, {device.cores} cores"


def _footnotes(bundle: Bundle) -> list[str]:
    told = bundle.manifest.provenance
    trained_on = " and ".join(str(one.get("title")) for one in told.get("data_sets", ())) or told.get("dataset")
    if not trained_on:
        return []
    return [f"Trained on: {trained_on}. Frames with truth are held out; percentages and degrees compare with their truth."]


def _photograph(noted: Mapping[str, str]) -> str:
    """What the photograph is, and how far the network is off where that is known; it was trained on nothing like it."""
    errors = ", ".join(f"{task} {note}" for task, note in noted.items() if note)
    found = f"there: {errors} of the true depth, mean" if errors else "this bundle has no depth to compare with it"
    return (
        "Photograph: Middlebury 2014 stereo benchmark, Scharstein et al., from scikit-image. Its depth was measured by "
        f"structured light; {found}."
    )
