"""What does it cost to get boxes out of a network's answer, by the number of candidates? See decision 0025.

    python benchmarks/boxes_postprocess.py --out FILE

Scores and distances as a network answers them, of strides 8, 16 and 32, become the boxes of a frame in the frame's pixels:
`finish` of the kind "boxes", once with each number of candidates, and what measuring average precision asks for besides, down
to a score of 0.001. Several candidates are of one object, so that suppression has work. All are interleaved; what counts is the
95th percentile, since frames with many objects are those that cost.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
from arguments import numbers, size
from conditions import Conditions

from edge_mtl.bench.interleaved import run_interleaved
from edge_mtl.files import write_atomic
from edge_mtl.image.buffer_pool import BufferPool
from edge_mtl.image.frames import letterbox
from edge_mtl.tasks import Boxes, BoxesSpec, graph_outputs
from edge_mtl.tasks.finishing import finish

Array = np.ndarray

AIM_MS, AIM_CANDIDATES = 0.5, 50
_OF_ONE_OBJECT = 5
_PERCENTILES = (50, 95)


def main() -> int:
    """Parse, measure, print, store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", type=numbers, default=(0, 50, 300), metavar="N,N", help="default: 0,50,300")
    parser.add_argument("--classes", type=int, default=11, metavar="N", help="default: %(default)s")
    parser.add_argument("--network", type=size, default=(288, 384), metavar="HxW", help="input size (default: 288x384)")
    parser.add_argument("--frame", type=size, default=(480, 640), metavar="HxW", help="frame size (default: 480x640)")
    parser.add_argument("--threads", type=int, default=1, help="of OpenCV (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=400)
    parser.add_argument("--out", type=Path, help="where the figures go, JSON")
    asked = parser.parse_args()
    conditions = Conditions(threads=asked.threads)
    spec = BoxesSpec("objects", "boxes", tuple(f"class {number}" for number in range(asked.classes)))
    given = {count: answers(spec, asked.network, count) for count in asked.candidates}
    ways: dict[str, Callable[[], Boxes]] = {
        f"{count} candidates": partial(finished, spec, outputs, asked.frame, asked.network, BufferPool())
        for count, outputs in given.items()
    }
    ways |= {f"{name}, measured": partial(measured, way) for name, way in ways.items()}
    boxes = {name: len(way()) for name, way in ways.items()}
    rows = []
    for name, times in run_interleaved(ways, rounds=asked.rounds).items():
        p50, p95 = (float(value) for value in np.percentile(np.array(times.seconds) * 1e3, _PERCENTILES))
        rows.append({"name": name, "boxes": boxes[name], "p50_ms": p50, "p95_ms": p95, "count": len(times.seconds)})
        print(f"{name:26} {boxes[name]:4} boxes  {p50:7.3f} ms, 95 %: {p95:7.3f} ms", flush=True)
    if asked.out is not None:
        content = {"question": __doc__.splitlines()[0], **conditions.describe(), "network": asked.network, "frame": asked.frame}
        content |= {"classes": asked.classes, "aim": {"candidates": AIM_CANDIDATES, "p95_ms": AIM_MS}, "rows": rows}
        write_atomic(asked.out, (json.dumps(content, indent=1) + "\n").encode())
    return 0


def answers(spec: BoxesSpec, network: tuple[int, int], candidates: int) -> dict[str, Array]:
    """Outputs by name, in which so many places and classes score above the threshold, several of them for one object."""
    random = np.random.default_rng(candidates)
    outputs: dict[str, Array] = {}
    for name, shape in graph_outputs({spec.name: spec}, network, "host").items():
        drawn = random.normal(-7.0, 1.0, shape).clip(max=-2.0) if "_scores_" in name else random.uniform(0.5, 5.0, shape)
        outputs[name] = drawn.astype(np.float32)
    finest = outputs[f"{spec.name}_scores_{spec.levels[0]}"][0]
    rows, columns = finest.shape[1:]
    for number in range(0, candidates, _OF_ONE_OBJECT):
        group = min(_OF_ONE_OBJECT, candidates - number)
        index, start = random.integers(len(finest)), random.integers(rows * columns - _OF_ONE_OBJECT)
        free = np.flatnonzero(finest[index].ravel()[start:] < 0)[:group] + start
        finest[index].reshape(-1)[free] = random.uniform(0.0, 3.0, len(free))
    return outputs


def finished(
    spec: BoxesSpec, outputs: dict[str, Array], frame: tuple[int, int], network: tuple[int, int], pool: BufferPool
) -> Boxes:
    """As Engine does it."""
    box = letterbox(frame, network)
    found: Any = finish({spec.name: spec}, outputs, box, placement="host", output_size="frame", change=None, pool=pool)
    return cast(Boxes, found[spec.name])


def measured(way: Callable[[], Boxes]) -> Boxes:
    """With the boxes of low scores, which average precision counts."""
    return way().measured


if __name__ == "__main__":
    sys.exit(main())
