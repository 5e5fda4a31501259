"""Predict on one image: python examples/predict_image.py room.jpg [BUNDLE]"""

import sys
from pathlib import Path

import numpy as np

from edge_mtl import Engine
from edge_mtl.sources.images import read_image

image = read_image(Path(sys.argv[1]))  # (H, W, 3) uint8 RGB

with Engine(sys.argv[2] if len(sys.argv) > 2 else None, build_missing=True) as engine:
    prediction = engine.predict(image)  # intrinsics=(fx, fy, cx, cy) of your camera makes depth metric

for label, name in enumerate(prediction.classes):
    print(f"{name}: {(prediction.segmentation == label).mean():.0%}")
print(f"depth: {np.nanmedian(prediction.depth):.2f} m in the median")
print("normal in the middle:", prediction.normals[image.shape[0] // 2, image.shape[1] // 2])
print(f"{prediction.timing.total * 1000:.1f} ms")
