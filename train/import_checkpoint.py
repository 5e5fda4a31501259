"""Take over a checkpoint that other code trained: `python train/import_checkpoint.py best.pt --out runs/libmtl`.

LibMTL's NYUv2 example: encoder and DeepLab heads, ready for `train/export.py`. PVT v2's published weights (or any backbone in
timm's names): a model whose decoder has still to be trained. The file is read as data: a pickle that holds more is refused.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mtl.arguments import size_argument
from mtl.surroundings import require_surroundings

from edge_mtl.console import Console
from edge_mtl.packages import FAILURES, package_error
from edge_mtl.standard_streams import open_standard_streams
from edge_mtl.tasks import NYU_TASKS


def main(arguments: list[str] | None = None) -> int:
    """Parse, import, write; the exit code."""
    open_standard_streams()
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("checkpoint", type=Path, help="a state dict: .pt, .pth or .safetensors")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run, such as runs/libmtl")
    parser.add_argument("--backbone", default="", help="timm's name (default: the one that fits)")
    parser.add_argument("--size", type=size_argument, default=(288, 384), help="of the input (default: 288x384)")
    parser.add_argument("--normals", default="x,y,z", help="its normals in our axes, such as x,-y,-z (default: as they are)")
    parser.add_argument("--decoder", choices=("edge", "aspp"), default="edge", help="for a backbone alone (default: edge)")
    parser.add_argument("--tasks", default=",".join(NYU_TASKS), help="for a backbone alone (default: %(default)s)")
    parser.add_argument("--replace", action="store_true", help="replace an imported checkpoint")
    asked = parser.parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 120)
    try:
        require_surroundings()
        from mtl.checkpoint import CheckpointError
        from mtl.importing import import_weights, read_weights, turn_normals, write_run

        if (asked.out / "best.safetensors").exists() and not asked.replace:
            raise CheckpointError(f"{asked.out} holds a run already. Choose another --out, or replace it with --replace")
        imported = import_weights(
            read_weights(asked.checkpoint, on_remark=lambda said: console.print(said, highlight=False, soft_wrap=True)),
            name=asked.out.name,
            backbone=asked.backbone,
            decoder=asked.decoder,
            tasks=asked.tasks.split(","),
            size=asked.size,
        )
        if asked.normals != "x,y,z":
            turn_normals(imported.model, asked.normals)
        path = write_run(imported, asked.out, origin=asked.checkpoint)
    except FAILURES as exc:
        error = package_error(exc, install="edge-mtl[train]")
        print(f"import: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("import: stopped; nothing was written", file=sys.stderr)
        return 130
    weights = sum(parameter.numel() for parameter in imported.model.parameters())
    model = imported.settings.model
    console.print(f"{path}: {model.backbone}, {model.decoder}, {', '.join(model.tasks)}, {weights:,} weights", highlight=False)
    if imported.left:
        console.print(f"not needed: {', '.join(imported.left)}", highlight=False)
    if imported.source == "backbone":
        taken = f"--model.init {path} --model.init_part backbone"
        alike = f"--model.backbone {model.backbone} --model.normalisation {model.normalisation}"
        console.print(f"the decoder has learnt nothing yet; next: python train/train.py {taken} {alike}", highlight=False)
    else:
        export = f"python train/export.py {path} --out bundles/{asked.out.name} --data.root FOLDER"
        console.print(f"next: {export}, a folder of NYUv2 to calibrate and to measure with", highlight=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
