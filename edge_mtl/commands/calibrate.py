"""`edge-mtl calibrate --out`: choose calibration frames and write them as images, without touching the bundle."""

from __future__ import annotations

from pathlib import Path

from edge_mtl.bundle import find
from edge_mtl.calibration.sampling import choose_frames, encode_frames
from edge_mtl.commands.recalibrate import STEPS, ChoiceOptions, report_choice
from edge_mtl.commands.terminal import Terminal
from edge_mtl.errors import BuildError
from edge_mtl.files import atomic_directory
from edge_mtl.quantization.learned import int8_recipe
from edge_mtl.sources.recordings import FrameSource

__all__ = ["write_choice"]


def write_choice(
    terminal: Terminal, path: Path | None, source: FrameSource, options: ChoiceOptions, out: Path, *, threads: int | None = None
) -> None:
    """Choose frames of `source` for a bundle and write them to the new folder `out`, all or none.

    Raises:
        BuildError: `out` exists, or cannot be written.
    """
    bundle = find(path)
    if out.exists():
        raise BuildError(f"{out} exists already. Remove it or name another folder.")
    rules = int8_recipe(bundle)
    with terminal.steps() as step:
        chosen, _ = choose_frames(
            source,
            bundle,
            count=options.count or rules.calibration.frames,
            seed=options.seed,
            embedding=options.embedding,
            unreadable_share=rules.calibration.unreadable_share,
            threads=threads,
            progress=lambda name, done, total: step(STEPS.get(name, name), done, total),
        )
    files, digest = encode_frames(chosen.frames)
    try:
        with atomic_directory(out) as folder:
            for name, payload in files.items():
                (folder / Path(name).name).write_bytes(payload)
    except (OSError, FileExistsError) as exc:
        raise BuildError(f"{out} could not be written ({exc}); nothing was left behind.") from exc
    if terminal.json_output:
        facts = {"count": len(files), "digest": digest, **chosen.facts()}
        terminal.record({"out": str(out), "calibration": facts, "dropped": chosen.dropped, "reach": chosen.reach})
    report_choice(terminal, chosen)
    terminal.show(f"{len(files)} images in {out}. Use them: edge-mtl build-engine {bundle.path} --int8 --calibration {out}")
