"""The network: backbone, decoders, the rewrite for speed, and ONNX export. Knows nothing about data or training."""

from __future__ import annotations

from mtl.model.model import IMAGENET_MEAN, IMAGENET_STD, MultiTaskModel, build_model

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "MultiTaskModel", "build_model"]
