"""NYUv2 with 13 classes, depth and normals: LibMTL's folder of .npy files read as it is, conversions into it, checks."""

from mtl.datasets.nyuv2.frames import NyuFrames, NyuRequest
from mtl.datasets.nyuv2.layout import DatasetError, DatasetMissing

__all__ = ["DatasetError", "DatasetMissing", "NyuFrames", "NyuRequest"]
