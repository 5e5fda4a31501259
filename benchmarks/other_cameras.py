"""Depth on real frames of cameras that no network of ours was trained on: how far off are bundles, in metres and in shape?

    python benchmarks/other_cameras.py prepare --origins COPIES --out data/cameras
    python benchmarks/other_cameras.py measure edge_mtl/bundles/rooms-b0 edge_mtl/bundles/indoor-b0 --frames data/cameras \\
        --threads 1 --out benchmarks/results/NAME

The frames are small samples in public repositories, which are read from copies that lie in one folder: COPIES/OWNER+NAME each,
a git repository that has the commit of `camera_samples.py`, or its files. `prepare` writes a folder for each row, in the layout
of docs/guides/own-data.md, so that `train/evaluate.py BUNDLE --root data/cameras/office --depth` measures on it too:

    office        40 of 373 frames of an office, HoloLens (deep-video-mvs)
    kitchen       40 of 1000 frames of 7-Scenes' red kitchen, Kinect v1 (tsdf-fusion-python); depth is of the infrared camera
                  (585 px) and is projected into the colour camera (525 px, 25 mm to its right): of depths that meet in a pixel
                  the nearest stays
    classroom     22 frames, 12 of them different, of a classroom, Kinect for Xbox 360 (rahulgautam21's Robot-Localization)
    single-views  10 frames of six cameras: 3DMatch 0, 116 and 422 (nvblox), ScanNet 0 and 10, colour reduced to 480x640
                  (TemporallyConsistentDepth), two of SUN RGB-D, raw depth (sunrgbd-toy), TUM freiburg2 1 and 50
                  (RGBD-tutorial), Middlebury's motorcycle, left, depth by disparity (scikit-image)
    flat          10 frames of a flat from near the floor, RealSense D4xx (ros_detect_planes_from_depth_img)

A sample of more than 40 frames is thinned to round(linspace(0, n - 1, 40)) in the order of names. Depth from 0.3 to 10 m
counts, rounded to millimetres. Every frame has the camera that its repository states, but for the kitchen's colour camera.

`measure` runs `Engine` in FP32 on ONNX Runtime on every frame with its camera, and compares as `train/evaluate.py` does: frames
at the size of the network, errors over all valid pixels of a row, also after median scaling of each frame. Writes NAME.json and
NAME.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from camera_folders import RANGE_M, digest_of, write_row
from camera_samples import MOST, ROWS
from conditions import Conditions
from other_cameras_page import less, markdown

from edge_mtl.bundle import Bundle
from edge_mtl.errors import BuildError, EdgeMtlError
from edge_mtl.files import write_atomic
from edge_mtl.tasks.depth import DepthSpec

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "train"))

__all__ = ["main", "measure", "prepare"]

_SCALED = "depth_median_scaled"
_MEASURES = ("depth_rel", "depth_delta1", "depth_rmse_m", "depth_abs_m")


def prepare(names: Sequence[str], origins: Path, out: Path) -> dict[str, int]:
    """Write the folders of rows; the number of frames of each. Those that are there stay as they are.

    Raises:
        BuildError: a copy of a repository is missing, with the address to get it, or cannot be used.
    """
    missing = [name for name in names if not (out / name).exists()]
    for name in missing:  # before anything is written
        for sample in ROWS[name].samples:
            sample.origin.copy_in(origins)
    return {name: write_row(name, ROWS[name], origins, out) for name in missing}


def measure(bundles: Sequence[Bundle], names: Sequence[str], frames: Path, *, threads: int) -> dict[str, Any]:
    """Every bundle on every row: plain values, `rows` by name with the figures of each bundle in the order of `bundles`.

    Raises:
        EdgeMtlError: a row is not there or damaged, a bundle has no task depth, or a runtime cannot run it.
    """
    from mtl.datasets.folder.source import FolderRequest
    from mtl.engine_predictor import EngineFrames
    from mtl.evaluate import evaluate_fully

    for name in names:
        if not (frames / name / "dataset.toml").is_file():
            raise BuildError(
                f"{frames / name} should have the frames of {ROWS[name].title}; found none. "
                f"Run: python benchmarks/other_cameras.py prepare --origins COPIES --out {frames}"
            )
    sources = {name: FolderRequest(str(frames / name), "test").open() for name in names}
    rows: dict[str, Any] = {
        name: {
            "title": ROWS[name].title,
            "frames": len(source),
            "digest": digest_of(frames / name),
            "origins": json.loads((frames / name / "origins.json").read_bytes()),
            "bundles": [],
        }
        for name, source in sources.items()
    }
    for bundle in bundles:
        specs = {name: spec for name, spec in bundle.manifest.tasks.items() if name == "depth" and isinstance(spec, DepthSpec)}
        if not specs:
            raise BuildError(f"{bundle.path} should have a task depth; found {', '.join(bundle.manifest.tasks)}. Leave it out")
        size = (bundle.manifest.input.height, bundle.manifest.input.width)
        with EngineFrames(bundle, None, threads=threads) as engine:
            for name, source in sources.items():
                found = evaluate_fully(engine, source, specs, size=size)
                scaled = found.details[_SCALED]
                figures = {key: found.measures[key] for key in _MEASURES}
                own: dict[str, Any] = {
                    "name": bundle.name,
                    "revision": bundle.manifest.revision,
                    "compared_at": list(size),
                    **figures,
                    "scaled": {key: scaled[key] for key in _MEASURES},
                }
                known = rows[name]["bundles"]
                first = known[0] if known else own
                known.append(own | {"less_error": less(own, first)})
                print(f"{bundle.name} {name}: {own['depth_rel']:.3f}, scaled {own['scaled']['depth_rel']:.3f}", file=sys.stderr)
    return rows


def main(arguments: list[str] | None = None) -> int:
    """Parse, then prepare or measure; the exit code."""
    asked = _parser().parse_args(arguments)
    names = tuple(name for name in ROWS if name in asked.rows) if asked.rows else tuple(ROWS)
    try:
        if asked.what == "prepare":
            for name, count in prepare(names, asked.origins, asked.out).items():
                print(f"{asked.out / name}: {count} frames")
            return 0
        conditions = Conditions(threads=asked.threads)
        bundles = [Bundle.open(path) for path in asked.bundles]
        rows = measure(bundles, names, asked.frames, threads=asked.threads)
    except EdgeMtlError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"error: {error.filename} should be a file or folder of its own; found: {error.strerror}", file=sys.stderr)
        return BuildError.exit_code
    content = {
        "question": "relative depth error on real frames of cameras that no network was trained on, FP32, through Engine",
        **conditions.describe(),
        "bundles": [{"name": one.name, "revision": one.manifest.revision, "digest": one.digest} for one in bundles],
        "most_frames": MOST,
        "range_m": list(RANGE_M),
        "rows": rows,
    }
    page = markdown(content)
    if asked.out is not None:
        stem = asked.out.name.removesuffix(".json")
        write_atomic(asked.out.with_name(f"{stem}.json"), (json.dumps(content, indent=1) + "\n").encode())
        write_atomic(asked.out.with_name(f"{stem}.md"), page.encode())
    print(page)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="what", required=True)
    writing = commands.add_parser("prepare", help="write the folders of frames")
    writing.add_argument("--origins", type=Path, required=True, metavar="COPIES", help="folder of copies of the repositories")
    writing.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the folders go, one a row")
    measuring = commands.add_parser("measure", help="measure bundles on them")
    measuring.add_argument(
        "bundles", type=Path, nargs="+", metavar="BUNDLE", help="folders; others are compared with the first"
    )
    measuring.add_argument("--frames", type=Path, required=True, metavar="DIR", help="what `prepare` wrote")
    measuring.add_argument("--threads", type=int, default=1, help="of the runtime (default: %(default)s)")
    measuring.add_argument("--out", type=Path, metavar="NAME", help="results without suffix")
    for command in (writing, measuring):
        command.add_argument("--rows", nargs="+", choices=tuple(ROWS), metavar="ROW", help=f"some of {', '.join(ROWS)}")
    return parser


if __name__ == "__main__":
    sys.exit(main())
