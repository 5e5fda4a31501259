"""The network: backbone, decoders, the rewrite for speed, and ONNX export. Knows nothing about data or training."""

from __future__ import annotations

from mtl.models.building import build_model
from mtl.models.configured import model_from
from mtl.models.edge import EdgeOptions
from mtl.models.model import IMAGENET_MEAN, NORMALISATIONS, MultiTaskModel

__all__ = ["IMAGENET_MEAN", "NORMALISATIONS", "EdgeOptions", "MultiTaskModel", "build_model", "model_from"]
