"""`edge-mtl demo`: from a bundle to an image and a benchmark, in one command.

Knows the order of the steps; each step is another module's.
"""

from __future__ import annotations

import errno
import tempfile
from pathlib import Path

from edge_mtl.backends import spec_of
from edge_mtl.bench.report import BenchmarkReport
from edge_mtl.bundle import DEMO_BUNDLE, MANIFEST, Bundle, find
from edge_mtl.commands.benchmark import compare
from edge_mtl.commands.build_engine import build
from edge_mtl.commands.demo_image import draw
from edge_mtl.commands.options import EngineOptions
from edge_mtl.commands.results import encode_image
from edge_mtl.commands.terminal import Terminal, one_line
from edge_mtl.device import fingerprint
from edge_mtl.engine import Engine, EngineInfo
from edge_mtl.engine_store.engines import EngineStore
from edge_mtl.errors import EngineMismatch
from edge_mtl.files import write_atomic
from edge_mtl.sources.samples import photograph, rooms
from edge_mtl.tasks import DEPTH, NORMALS, SEGMENTATION

__all__ = ["run"]

_ROOMS = 3
_ROUNDS = 20


def run(terminal: Terminal, path: Path | None, out: Path) -> None:
    """Build if needed, time, predict, draw.

    Args:
        path: the bundle; by default the demo bundle, or what `edge_mtl.bundle.find` finds where that is not installed.
        out: the image to write.
    Raises:
        EdgeMtlError: as bundle, build and engine say.
        OSError: the image cannot be written.
    """
    _check_place(out)  # found out now, not after minutes of building
    bundle = find(DEMO_BUNDLE if path is None and (DEMO_BUNDLE / MANIFEST).is_file() else path)
    if _needs_building(bundle):
        build(terminal, bundle, "int8")
    report = compare(terminal, bundle, EngineOptions(bundle.path), rounds=_ROUNDS)
    samples = rooms(bundle, _ROOMS)
    if (real := photograph()) is not None:
        samples.append(real)
    else:
        terminal.note("No photograph: it comes with scikit-image. Install it with: pip install 'edge-mtl[demo]'")
    with Engine(bundle, precision="int8") as engine:
        predictions = [(sample, engine.predict(sample.pixels, intrinsics=sample.intrinsics)) for sample in samples]
        info = engine.info
    image = draw(
        predictions,
        title=f"edge_mtl: one camera frame → {_tasks(bundle)}",
        subtitle="  ·  ".join((bundle.name, *_engine_facts(info, report), _device_fact())),
        footnotes=_footnotes(bundle, real is not None),
        classes=predictions[0][1].classes if predictions else (),
    )
    write_atomic(out, encode_image(image))
    terminal.show(f"Image: {out}")


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
    classes = bundle.manifest.tasks.get(SEGMENTATION, {}).get("classes", ())
    words = {SEGMENTATION: f"{len(classes)} classes", DEPTH: "metric depth", NORMALS: "surface normals"}
    return ", ".join(words[task] for task in bundle.tasks)


def _needs_building(bundle: Bundle) -> bool:
    try:
        return EngineStore(bundle).select(precision="int8").record is None
    except EngineMismatch:
        return True


def _engine_facts(info: EngineInfo, report: BenchmarkReport) -> list[str]:
    row = next((row for row in report.rows if row.engine_key == info.engine_key), None)
    facts = [f"{info.precision.upper().replace('BF16', 'bf16')} on {spec_of(info.backend).title}"]
    if report.disturbed:
        facts.append("not timed, others had too much of the machine")
    elif row is not None:
        facts.append(f"{row.p50_ms:.1f} ms per frame, {row.ratio:.1f}× FP32 in ONNX Runtime")
    return facts


def _device_fact() -> str:
    device = fingerprint()
    name = (device.cpu_model or device.architecture).replace("(R)", "").replace("(TM)", "")
    return f"{one_line(name)}, {device.cores} cores"


def _footnotes(bundle: Bundle, real: bool) -> list[str]:
    dataset = bundle.manifest.provenance.get("dataset")
    notes = (
        [f"Trained on: {dataset}. Rooms are held-out frames; percentages and degrees compare with their truth."]
        if dataset
        else []
    )
    if real:
        notes.append(
            "Photograph: Middlebury 2014 stereo benchmark, Scharstein et al., from scikit-image; its true depth was measured "
            "by structured light."
        )
    return notes
