"""Make a teacher for `[distill] graph` of a DeepLabV3-MobileNetV2 of ADE20K: its 150 classes become those of NYUv2.

python train/make_teacher.py FILE.tflite data/teacher-nyu13.onnx --root data/nyuv2 --licence Apache-2.0
python train/make_teacher.py FILE.tflite data/teacher.onnx --config X.toml --source nyu
python train/make_teacher.py FILE.tflite data/teacher.onnx --steps 0     as it comes: no data set is needed

FILE is read as data. The network is fine-tuned on the training frames of the configuration's data set, with its augmentation,
and measured before and after on the frames that are set aside for validation, never on test frames. What is written is an ONNX
graph that says what its outputs mean, where its weights are from and what they were fine-tuned on.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from mtl.arguments import size_argument
from mtl.config import load_config, split_arguments
from mtl.surroundings import require_surroundings

from edge_mtl.console import Console
from edge_mtl.errors import BuildError
from edge_mtl.packages import FAILURES, package_error
from edge_mtl.standard_streams import open_standard_streams

DEFAULT_CONFIG = Path(__file__).parent / "configs" / "indoor-b0.toml"


def main(arguments: list[str] | None = None) -> int:
    """Parse, fine-tune, measure, write; the exit code."""
    open_standard_streams()
    asked, rest = _parser().parse_known_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 120)
    try:
        require_surroundings()
        _make(asked, split_arguments(rest), console)
    except FAILURES as exc:
        error = package_error(exc, install="edge-mtl[train]")
        print(f"make_teacher: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("make_teacher: stopped; nothing was written", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout, allow_abbrev=False)
    parser.add_argument("file", type=Path, help="TensorFlow Lite file of the network, INT8 or float, 150 or 151 classes")
    parser.add_argument("out", type=Path, help="the graph to write, such as data/teacher-nyu13.onnx")
    parser.add_argument("--replace", action="store_true", help="replace a graph that is there")
    parser.add_argument("--licence", default="", help="of FILE, as the page that offers it states; kept with the graph")
    parser.add_argument("--config", type=Path, default=DEFAULT_CONFIG, help="whose data to use (default: %(default)s)")
    parser.add_argument("--source", default="", help="of a mixture: which one (default: that of distill.sources)")
    parser.add_argument("--root", type=Path, help="folder of its frames (default: as the configuration says)")
    parser.add_argument("--steps", type=int, default=400, help="of fine-tuning, 0 for none (default: 400)")
    parser.add_argument("--lr", type=float, default=3e-4, help="largest learning rate (default: 3e-4)")
    parser.add_argument("--batch", type=int, default=8, help="frames a step (default: 8)")
    parser.add_argument("--size", type=size_argument, default=(192, 256), help="of its input (default: 192x256)")
    parser.add_argument(
        "--output-stride", type=int, choices=(8, 16), default=16, help="of its coarse map: 8 is the file's (default: 16)"
    )
    return parser


def _make(asked: argparse.Namespace, overrides: dict[str, str], console: Console) -> None:
    from mtl.checkpoint import CheckpointError
    from mtl.datasets.nyuv2.ade20k import CLASSES, nyu13_of
    from mtl.distill.deeplab import deeplab_from_tflite
    from mtl.distill.teacher_making import FineTuning, fine_tune, labelled_frames, measure, write_teacher
    from mtl.machine import prepared

    from edge_mtl.tasks import NYU_TASKS, LabelsSpec
    from edge_mtl.tasks.nyu13 import NYU13_CLASSES

    if asked.out.exists() and not asked.replace:
        raise CheckpointError(f"{asked.out} is there already. Choose another name, or replace it with --replace")
    if not asked.out.parent.is_dir():
        raise BuildError(f"there is no folder {asked.out.parent} to write {asked.out.name} to. Make it, or choose another")
    if min(asked.size) < 32 or asked.size[0] % 32 or asked.size[1] % 32:
        raise BuildError(f"--size is {asked.size[0]}x{asked.size[1]}: its sides should be multiples of 32")
    if asked.steps < 0 or asked.batch < 2 or not asked.lr > 0:
        raise BuildError("--steps should be 0 or more, --batch 2 or more, --lr above 0")
    tuning = FineTuning(asked.steps, asked.lr, asked.batch, asked.size)
    spec = next(one for one in NYU_TASKS.values() if isinstance(one, LabelsSpec))
    net = deeplab_from_tflite(
        asked.file, nyu13_of(CLASSES).tolist(), classes=len(NYU13_CLASSES), output_stride=asked.output_stride
    )
    about = _source(asked)
    if tuning.steps:
        settings = load_config(asked.config, {"loop.device": "cpu", **overrides})
        labelled = labelled_frames(settings, NYU13_CLASSES, source=asked.source, root=asked.root)
        spec = labelled.spec
        with prepared(settings.loop):
            before, count = measure(net, labelled, tuning.size)
            console.print(f"as it comes: mIoU {before:.3f} on {count} validation frames", highlight=False)
            net = fine_tune(net, labelled, settings, tuning, console=console)
            after, _ = measure(net, labelled, tuning.size)
        console.print(f"fine-tuned: mIoU {after:.3f}", highlight=False)
        about["fine_tuned_on"] = {
            "data_set": labelled.set.title(labelled.data),
            "licence": labelled.set.licence(labelled.data),
            "split": "train",
            "steps": tuning.steps,
            "batch": tuning.batch,
            "lr": tuning.lr,
            "seed": settings.seed,
        }
        about["validation"] = {"frames": count, "miou_before": round(before, 4), "miou": round(after, 4)}
    try:
        write_teacher(net, asked.out, spec, tuning.size, about)
    except OSError as exc:
        raise BuildError(f"{asked.out} could not be written ({exc.strerror}). Make room, or choose another folder") from exc
    console.print(f'{asked.out}: learn from it with --distill.graph "{asked.out}"', highlight=False, soft_wrap=True)


def _source(asked: argparse.Namespace) -> dict[str, Any]:
    """What the graph says of where it is from."""
    from mtl.revision import commit

    from edge_mtl.files import sha256_file

    content: dict[str, Any] = {
        "title": "DeepLabV3-MobileNetV2 of ADE20K, its 150 classes grouped into the 13 of NYUv2",
        "weights": {"file": asked.file.name, "sha256": sha256_file(asked.file)},
        "licence": asked.licence or "not stated to make_teacher.py",
        "output_stride": asked.output_stride,
    }
    made_by = commit()
    return content if made_by is None else {**content, "commit": made_by}


if __name__ == "__main__":
    sys.exit(main())
