"""`edge-mtl inspect`: what a bundle says about itself, after its files were checked, and its engines on this device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.table import Table

from edge_mtl.cli.application import app
from edge_mtl.cli.arguments import BundleArgument, JsonOption, QuietOption, block
from edge_mtl.cli.terminal import Terminal, table
from edge_mtl.tasks import describe_tasks, remarks

if TYPE_CHECKING:
    from edge_mtl.bundle import Bundle
    from edge_mtl.engine_store.engines import EngineStore
    from edge_mtl.engine_store.sidecars import EngineRecord

__all__ = ["inspect"]

_PROVENANCE = {"command": "exported by", "training_command": "trained by", "config_sha256": "configuration, SHA-256"}
"""Words for keys of the provenance that do not speak for themselves."""


@app.command(
    short_help="Show and verify what is in a bundle.",
    epilog=block("Examples:", "edge-mtl inspect", "edge-mtl inspect bundles/rooms-b0 --json"),
)
def inspect(bundle: BundleArgument = None, json: JsonOption = False, quiet: QuietOption = False) -> None:
    """Show what is in a bundle, after checking every file against its hash, and its engines on this device."""
    from edge_mtl.bundle import find
    from edge_mtl.engine_store.engines import EngineStore

    terminal = Terminal(json_output=json, quiet=quiet)
    found = find(bundle)
    total = len(found.manifest.files)
    with terminal.steps() as step:
        checked: list[str] = []

        def progress(relative: str) -> None:
            checked.append(relative)
            step("checking files", len(checked), total)

        found.verify(progress=progress)
    store = EngineStore(found)
    engines = [_engine(store, record) for record in store.list()]
    if terminal.json_output:
        terminal.record(_content(found) | {"engines": engines, "engine_problems": list(store.problems())})
        return
    terminal.show(_overview(found))
    if found.manifest.accuracy:
        terminal.show(*_accuracy(found.manifest.accuracy))
    for frames, record in found.manifest.measurements.items():
        terminal.show(*_measurement(frames, record, found.manifest.calibration.get("digest")))
    if found.manifest.card:
        terminal.show(*_card(found.manifest.card))
    terminal.show(_engines(engines) if engines else f"No engine yet. Build one with: edge-mtl build-engine {found.path} --int8")
    for problem in store.problems():
        terminal.warn(problem)


def _content(bundle: Bundle) -> dict[str, Any]:
    manifest = bundle.manifest
    return {
        "path": str(bundle.path),
        "name": bundle.name,
        "revision": manifest.revision,
        "digest": bundle.digest,
        "created": manifest.created,
        "verified": True,
        "tasks": describe_tasks(manifest.tasks),
        "input": manifest.input,
        "canonical_intrinsics": manifest.canonical_intrinsics,
        "files": {"count": len(manifest.files), "bytes": _bytes(bundle)},
        "provenance": manifest.provenance,
        "accuracy": manifest.accuracy,
        "calibration": manifest.calibration,
        "card": manifest.card,
        "measurements": manifest.measurements,
    }


def _engine(store: EngineStore, record: EngineRecord) -> dict[str, Any]:
    problem = store.mismatch(record)
    if problem is None and record.backend not in store.runtimes:
        problem = f"{record.backend} is not installed here"
    if problem is None and not record.passed_self_test:
        problem = "it did not pass its self-test"
    return {
        "key": record.key,
        "precision": record.precision,
        "backend": record.backend,
        "runtime_version": record.runtime_version,
        "latency_ms": record.latency_ms,
        "ratio": record.ratio,
        "size": record.size,
        "usable": problem is None,
        "problem": problem,
        "compiled": problem is None and store.compiled.load(record)[0] is not None,
    }


def _overview(bundle: Bundle) -> Table:
    manifest = bundle.manifest
    result = table(f"{bundle.name}, revision {manifest.revision}", "what", "found")
    result.add_row("folder", str(bundle.path))
    result.add_row("files", f"{len(manifest.files)} files, {_bytes(bundle) / 1e6:.1f} MB; every hash is right")
    result.add_row("created", manifest.created)
    for task, description in describe_tasks(manifest.tasks).items():
        classes = description.get("classes")
        result.add_row(
            task, f"{len(classes)} classes: {', '.join(classes)}" if isinstance(classes, list) else _text(description)
        )
    for remark in remarks(manifest.tasks):
        result.add_row("measures", remark)
    result.add_row("input", f"{manifest.input.height}x{manifest.input.width} pixels, {manifest.input.channels}")
    result.add_row("canonical camera", "fx {:.1f}, fy {:.1f}, cx {:.1f}, cy {:.1f}".format(*manifest.canonical_intrinsics))
    result.add_row(
        "calibration", _text({key: value for key, value in manifest.calibration.items() if key != "names"}) or "none"
    )
    for key, value in manifest.provenance.items():
        if key == "data_sets" and isinstance(value, list):
            for one in value:
                result.add_row("trained on", _data_set(one))
        elif key == "teachers" and isinstance(value, list):
            for one in value:
                result.add_row("taught by", _teacher(one))
        elif not (key.startswith("dataset") and manifest.provenance.get("data_sets")):  # the same, as 0.1 wrote it
            result.add_row(_PROVENANCE.get(key, key.replace("_", " ")), _text(value))
    return result


def _data_set(entry: Any) -> str:
    """Title, terms, whether its images may be passed on, and which networks labelled them."""
    if not isinstance(entry, Mapping):
        return _text(entry)
    free = "may" if entry.get("redistributable") is True else "may not"
    terms = f"{entry.get('title')}; licence: {entry.get('licence')}; its images {free} be passed on"
    labelled = entry.get("pseudo_labels")
    if not isinstance(labelled, Mapping):
        return terms
    held_out = _text(labelled.get("held_out")) or "none"
    return (
        f"{terms}; frames labelled by {_text(labelled.get('bundles'))}: {_text(labelled.get('frames'))}; "
        f"of them held out: {held_out}"
    )


def _teacher(entry: Any) -> str:
    """File, what is learnt from it, and what it says of itself."""
    if not isinstance(entry, Mapping):
        return _text(entry)
    answers = entry.get("answers") or []
    learnt = [f"answers of {_text(answers)}"] * bool(answers) + ["features"] * bool(entry.get("features"))
    line = f"{entry.get('file')} ({' and '.join(learnt)}; SHA-256 {str(entry.get('sha256'))[:12]})"
    about = entry.get("about")
    return f"{line}; {_text(about)}" if about else line


def _card(card: Mapping[str, Any]) -> list[Any]:
    """What the last verification found: see `edge_mtl.evaluation.worst_frames`."""
    measured, graphs, verdicts = (card.get(key, {}) for key in ("measured", "graphs", "verdicts"))
    states = [f"{graph} {'passed' if verdict.get('passed') else 'FAILED'}" for graph, verdict in verdicts.items()]
    line = f"Card of {measured.get('time')}, {_text(measured.get('frames', {}))}. {', '.join(states)}."
    return [line, *_accuracy(graphs)]


def _measurement(frames: str, record: Mapping[str, Any], calibration: str | None) -> list[Any]:
    """Accuracy on frames that need not be in the bundle, see `Manifest.measurements`, and how to repeat it.

    Args:
        calibration: digest of the calibration that the bundle has now.
    """
    truths, pseudo = record.get("truths"), record.get("pseudo")
    lines = [f"Measured on {frames}: {_text(record.get('frames'))} frames, {_text(record.get('date'))}. {record.get('device')}"]
    for task, note in truths.items() if isinstance(truths, Mapping) else ():
        if isinstance(note, Mapping):
            what = "computed, not measured: its figures are marked (pseudo)" if note.get("pseudo") else "truth"
            lines.append(f"{task}: {what}; {_text(note.get('made'))}")
    if record.get("calibration") != calibration:
        lines.append("The bundle was calibrated since: figures of INT8 are of the calibration before.")
    lines.append(f"Repeat it: {_text(record.get('command'))}")
    computed = pseudo if isinstance(pseudo, list) else ()
    marked = {
        graph: {f"{key} (pseudo)" if key in computed else key: value for key, value in values.items()}
        for graph, values in record["graphs"].items()
    }
    return [*lines, *_accuracy(marked, title=f"Accuracy on {frames}")]


def _accuracy(accuracy: Mapping[str, Mapping[str, Any]], *, title: str = "Accuracy") -> list[Table]:
    """The metrics of each precision side by side; what is a mapping itself (classes) gets a table of its own."""
    names = list(dict.fromkeys(name for metrics in accuracy.values() for name in metrics))
    flat = [name for name in names if not any(isinstance(metrics.get(name), Mapping) for metrics in accuracy.values())]
    tables = []
    if flat:
        tables.append(_comparison(title, "metric", accuracy, flat))
    for name in names:
        if name not in flat:
            nested = {precision: metrics.get(name) or {} for precision, metrics in accuracy.items()}
            keys = list(dict.fromkeys(key for values in nested.values() for key in values))
            tables.append(_comparison(name.replace("_", " "), "class" if "class" in name else "", nested, keys))
    return tables


def _comparison(title: str, first: str, values: Mapping[str, Mapping[str, Any]], keys: list[str]) -> Table:
    result = table(title, first, *values, right=tuple(values))
    for key in keys:
        result.add_row(key.replace("_", " "), *(_text(column.get(key, "–")) for column in values.values()))
    return result


def _engines(engines: list[dict[str, Any]]) -> Table:
    numbers = ("ms", "gain", "MB")
    result = table("Engines on this device", "engine", "runtime", *numbers, "state", right=numbers)
    for engine in engines:
        result.add_row(
            f"{engine['precision']} on {engine['backend']}",
            engine["runtime_version"],
            f"{engine['latency_ms']:.1f}",
            f"{engine['ratio']:.2f}×",
            f"{engine['size'] / 1e6:.1f}",
            _state(engine),
        )
    return result


def _state(engine: Mapping[str, Any]) -> str:
    if not engine["usable"]:
        return f"stale: {engine['problem']}"
    return "usable, starts from compiled code" if engine["compiled"] else "usable, is compiled at every start"


def _bytes(bundle: Bundle) -> int:
    return sum(entry.size for entry in bundle.manifest.files.values())


def _text(value: Any) -> str:
    """A manifest value for people."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key.replace('_', ' ')}: {_text(entry)}" for key, entry in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_text, value))
    return str(value)
