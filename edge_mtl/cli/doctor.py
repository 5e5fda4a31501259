"""`edge-mtl doctor`: what can run here, what cannot and why, and what to install."""

from __future__ import annotations

from typing import Any

from edge_mtl.cli.application import app
from edge_mtl.cli.arguments import JsonOption, QuietOption, block
from edge_mtl.cli.terminal import Terminal, table

__all__ = ["doctor"]


@app.command(
    short_help="Say what can run here, and what is missing.",
    epilog=block("Examples:", "edge-mtl doctor", "edge-mtl doctor --json"),
)
def doctor(json: JsonOption = False, quiet: QuietOption = False) -> None:
    """Say what can run here, what cannot and why, and what to install.

    Succeeds where at least one backend is usable; else the exit code is 5.
    """
    from edge_mtl.diagnosis import diagnose, problems
    from edge_mtl.errors import BackendUnavailable

    terminal = Terminal(json_output=json, quiet=quiet)
    findings = diagnose()
    if terminal.json_output:
        terminal.record(findings)
    else:
        _show(terminal, findings)
    if wrong := problems(findings):
        raise BackendUnavailable(" ".join(wrong))


def _show(terminal: Terminal, findings: dict[str, Any]) -> None:
    backends = table("Backends", "backend", "usable", "version", "remark")
    for name, entry in findings["backends"].items():
        backends.add_row(name, "yes" if entry["usable"] else "no", entry["version"], entry["reason"])
    terminal.show(backends)
    from edge_mtl.cuda.gpus import Gpu
    from edge_mtl.cuda.presence import no_gpu
    from edge_mtl.device import fingerprint

    here = fingerprint()
    device = table("Device", "what", "found")
    device.add_row("processor", f"{here.cpu_model or here.architecture}, {here.cores} cores for this process")
    device.add_row("memory", f"{here.memory_bytes / 2**30:.1f} GiB" if here.memory_bytes else "unknown")
    device.add_row("instruction sets", ", ".join(here.isa) or "none that matter")
    device.add_row("INT8 in hardware", "yes" if here.has_vnni else "no VNNI, AMX or dot product: INT8 gains less")
    for name, said in findings["int8_sums"].items():
        device.add_row(f"INT8 sums, {name}", said)
    device.add_row("bfloat16 in hardware", "yes" if here.has_bf16 else "no: --bf16 cannot be built here")
    device.add_row("half precision in hardware", "yes" if here.has_fp16 else "no: --fp16 cannot be built here")
    for number, found in enumerate(findings["gpus"]):
        device.add_row(f"GPU {number}", Gpu.from_dict(found).describe())
    if not findings["gpus"]:
        device.add_row("GPU", no_gpu() or "the NVIDIA driver does not answer: check with nvidia-smi")
    device.add_row("system", f"{here.system} {here.architecture}, Python {here.python}")
    device.add_row("OpenCV", _opencv(findings["opencv"]))
    default = findings["default"]
    device.add_row("without an engine", f"{default['backend'] or 'nothing'}: {default['reason']}")
    demo, cache = findings["demo_bundle"], findings["cache"]
    device.add_row("demo bundle", f"{demo['name']}, revision {demo['revision']}" if demo["present"] else demo["reason"])
    if findings["bundled"]:
        device.add_row("bundles by name", ", ".join(findings["bundled"]))
    state = "writable" if cache["writable"] else "NOT writable: set XDG_CACHE_HOME to a folder that can be written"
    device.add_row("cache folder", f"{cache['folder']} ({state})")
    for name, finding in findings["surroundings"].items():
        device.add_row(name, ". ".join(text for text in (finding["found"], finding["remedy"]) if text))
    terminal.show(device)


def _opencv(found: dict[str, Any]) -> str:
    """One line: the version and whose it is, or what is wrong."""
    if not found["version"]:
        return str(found["problem"])
    source = " and ".join(found["distributions"]) or f"not of pip, in {found['folder']}"
    return f"{found['version']}, {source}, {found['threads']} threads"
