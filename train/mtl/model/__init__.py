"""The network: backbone, decoders, the rewrite for speed, and ONNX export. Knows nothing about data or training."""

from __future__ import annotations

from mtl.model.building import build_model
from mtl.model.configured import model_from
from mtl.model.edge import EdgeOptions
from mtl.model.model import IMAGENET_MEAN, IMAGENET_STD, MultiTaskModel

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "EdgeOptions", "MultiTaskModel", "build_model", "model_from"]
