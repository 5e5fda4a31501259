"""`edge-mtl engines`: the engines of a bundle on this machine, which of them may run here and why the others may not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge_mtl.cli.application import app
from edge_mtl.cli.arguments import BundleArgument, JsonOption, QuietOption, block
from edge_mtl.cli.terminal import Terminal, table
from edge_mtl.errors import BundleError, EngineMismatch

if TYPE_CHECKING:
    from edge_mtl.bundle import Bundle
    from edge_mtl.engine_store.engines import EngineStore
    from edge_mtl.engine_store.sidecars import EngineRecord

__all__ = ["engines"]

_SHORT = 8
_LEAST = 4


@app.command(
    short_help="List a bundle's engines, why some are stale; remove.",
    epilog=block(
        "Examples:",
        "edge-mtl engines",
        "edge-mtl engines bundles/rooms-b0 --remove 3f2a91c0",
        "edge-mtl engines --remove-stale",
    ),
)
def engines(
    bundle: BundleArgument = None,
    remove: Annotated[
        str | None, typer.Option("--remove", metavar="KEY", help="The start of an engine's key, or all.", show_default=False)
    ] = None,
    remove_stale: Annotated[bool, typer.Option("--remove-stale", help="Remove whatever cannot run here.")] = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """List the engines of a bundle, which of them can run on this machine, and why the others cannot.

    What was named is removed first: engines by key, or with --remove-stale whatever cannot run here.
    """
    from edge_mtl.bundle import find
    from edge_mtl.engine_store.engines import EngineStore

    terminal = Terminal(json_output=json, quiet=quiet)
    found = find(bundle)
    store = EngineStore(found)
    gone = _chosen(found, store, remove) if remove is not None else []
    if remove_stale:
        gone += [record for record in store.list() if _problem(store, record) is not None and record not in gone]
    if gone:
        with store.building(waiting=lambda: terminal.note("waiting for a build of this bundle")):
            there = store.list()
            gone = [record for record in gone if record in there]  # a build that was waited for may have replaced some
            for record in gone:
                store.remove(record)
    rows = [_row(store, record) for record in store.list()]
    if terminal.json_output:
        removed = [record.key for record in gone]
        terminal.record(
            {"bundle": str(found.path), "engines": rows, "removed": removed, "engine_problems": list(store.problems())}
        )
        return
    for record in gone:
        terminal.show(f"removed {record.key[:_SHORT]}: {record.precision} on {record.backend}")
    _show(terminal, found, rows)
    for problem in store.problems():
        terminal.warn(problem)


def _chosen(bundle: Bundle, store: EngineStore, key: str) -> list[EngineRecord]:
    records = store.list()
    if key == "all":
        return list(records)
    found = [record for record in records if len(key) >= _LEAST and record.key.startswith(key)]
    if len(found) != 1:
        keys = ", ".join(record.key[:_SHORT] for record in records) or "none"
        raise EngineMismatch(
            f"--remove: one engine whose key starts with {key!r} ({_LEAST} digits or more) was expected, {len(found)} found; "
            f"keys here: {keys}. Run: edge-mtl engines {bundle.path}"
        )
    return found


def _row(store: EngineStore, record: EngineRecord) -> dict[str, Any]:
    return {
        "key": record.key,
        "precision": record.precision,
        "backend": record.backend,
        "runtime_version": record.runtime_version,
        "device": record.gpu.describe() if record.gpu is not None else record.device.describe(),
        "latency_ms": record.latency_ms,
        "ratio": record.ratio,
        "size": record.size,
        "contents": record.contents,
        "options": dict(record.options),
        "created": record.created,
        "problem": _problem(store, record),
    }


def _problem(store: EngineStore, record: EngineRecord) -> str | None:
    """Why an engine cannot run here, None if it can."""
    if (why := store.mismatch(record)) is not None:
        return why
    if record.backend not in store.runtimes:
        return f"{record.backend} cannot be used here: see edge-mtl doctor"
    if not record.passed_self_test:
        return "it did not pass its self-test"
    try:
        store.load(record)
    except EngineMismatch:
        return "this user did not build it here: a plan is a program, so it runs with trust_engine=True only"
    except BundleError as exc:
        return str(exc)
    return None


def _show(terminal: Terminal, bundle: Bundle, rows: list[dict[str, Any]]) -> None:
    if not rows:
        terminal.show(f"No engine yet. Build one with: edge-mtl build-engine {bundle.path} --int8")
        return
    result = table(
        f"{bundle.name}: engines",
        "key",
        "precision",
        "runtime",
        "version",
        "ms",
        "gain",
        "MB",
        "usable",
        right=("ms", "gain", "MB"),
    )
    for row in rows:
        result.add_row(
            row["key"][:_SHORT],
            row["precision"],
            row["backend"],
            row["runtime_version"],
            f"{row['latency_ms']:.1f}",
            f"{row['ratio']:.2f}×",
            f"{row['size'] / 1e6:.2f}",
            "no" if row["problem"] else "yes",
        )
    terminal.show(result)
    for row in rows:
        if row["problem"]:
            terminal.show(f"{row['key'][:_SHORT]} ({row['device']}): {row['problem']}.")
    if any(row["problem"] for row in rows):
        path = bundle.path
        terminal.show(f"Remove those: edge-mtl engines {path} --remove-stale. Build again: edge-mtl build-engine {path} --int8")
