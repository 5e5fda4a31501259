"""Predict on one picture: python examples/predict_picture.py room.jpg [BUNDLE]"""

import sys
from pathlib import Path

import numpy as np

from edge_mtl import Engine
from edge_mtl.sources.media import read_picture

picture = read_picture(Path(sys.argv[1]))  # (H, W, 3) uint8 RGB

with Engine(sys.argv[2] if len(sys.argv) > 2 else None, build_missing=True) as engine:
    prediction = engine.predict(picture)  # intrinsics=(fx, fy, cx, cy) of your camera makes depth metric

for label, name in enumerate(prediction.classes):
    print(f"{name}: {(prediction.segmentation == label).mean():.0%}")
print(f"depth: {np.nanmedian(prediction.depth):.2f} m in the median")
print("normal in the middle:", prediction.normals[picture.shape[0] // 2, picture.shape[1] // 2])
print(f"{prediction.timing.total * 1000:.1f} ms")
