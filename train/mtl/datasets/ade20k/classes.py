"""The 150 classes of ADE20K's scene parsing benchmark, and the numbers that the full release has for them.

Names are the first of each class in the benchmark's objectInfo150.txt, numbers those of mapFromADE.txt in the benchmark's
development kit (github.com/CSAILVision/sceneparsing, convertFromADE). A few classes of the benchmark are two of the release.
"""

from __future__ import annotations

import numpy as np

from edge_mtl.tasks import VOID

__all__ = ["CLASSES", "NUMBERS", "benchmark_classes", "release_classes", "release_numbers"]

Array = np.ndarray

# fmt: off
NUMBERS: dict[str, tuple[int, ...]] = {
    "wall": (2978,), "building": (312,), "sky": (2420,), "floor": (976,), "tree": (2855,), "ceiling": (447,), "road": (2131,),
    "bed": (165,), "windowpane": (3055,), "grass": (1125,), "cabinet": (350,), "sidewalk": (2377,), "person": (1831,),
    "earth": (838,), "door": (774, 783), "table": (2684,), "mountain": (1610,), "plant": (1910,), "curtain": (687,),
    "chair": (471,), "car": (401,), "water": (2994,), "painting": (1735,), "sofa": (2473,), "shelf": (2329,),
    "house": (1276,), "sea": (2264,), "mirror": (1564,), "rug": (2178,), "field": (913,), "armchair": (57,), "seat": (2272,),
    "fence": (907,), "desk": (724,), "rock": (2138,), "wardrobe": (2985, 533), "lamp": (1395,), "bathtub": (155,),
    "railing": (2053,), "cushion": (689,), "base": (137,), "box": (266,), "column": (581,), "signboard": (2380,),
    "chest of drawers": (491,), "counter": (627,), "sand": (2212,), "sink": (2388,), "skyscraper": (2423,),
    "fireplace": (943,), "refrigerator": (2096,), "grandstand": (1121,), "path": (1788,), "stairs": (2530,),
    "runway": (2185,), "case": (420,), "pool table": (1948,), "pillow": (1869,), "screen door": (2251,), "stairway": (2531,),
    "river": (2128,), "bridge": (294,), "bookcase": (239,), "blind": (212,), "coffee table": (571,), "toilet": (2793,),
    "flower": (978,), "book": (236,), "hill": (1240,), "bench": (181,), "countertop": (629,), "stove": (2598,),
    "palm": (1744,), "kitchen island": (1374,), "computer": (591,), "swivel chair": (2679,), "boat": (223,), "bar": (123,),
    "arcade machine": (47,), "hovel": (1282,), "bus": (327,), "towel": (2821,), "light": (1451,), "truck": (2880,),
    "tower": (2828,), "chandelier": (480,), "awning": (77,), "streetlight": (2616,), "booth": (246, 247),
    "television": (2733,), "airplane": (14,), "dirt track": (738,), "apparel": (38,), "pole": (1936,), "land": (1401,),
    "bannister": (120,), "escalator": (868,), "ottoman": (1702,), "bottle": (249,), "buffet": (308,), "poster": (1969,),
    "stage": (2526,), "van": (2928,), "ship": (2337,), "fountain": (1023,), "conveyer belt": (609,), "canopy": (389,),
    "washer": (2989,), "plaything": (1930,), "swimming pool": (2668,), "stool": (2586,), "barrel": (131,), "basket": (146,),
    "waterfall": (3016,), "tent": (2739,), "bag": (95,), "minibike": (1563,), "cradle": (642,), "oven": (1708,),
    "ball": (103,), "food": (1002,), "step": (2569,), "tank": (2704,), "trade name": (2833,), "microwave": (1551,),
    "pot": (1981,), "animal": (29,), "bicycle": (187,), "lake": (1393,), "dishwasher": (747,), "screen": (2254,),
    "blanket": (206,), "sculpture": (2262,), "hood": (1260,), "sconce": (2243,), "vase": (2932,), "traffic light": (2836,),
    "tray": (2850,), "ashcan": (64,), "fan": (894,), "pier": (1858,), "crt screen": (3109,), "plate": (1919,),
    "monitor": (1583,), "bulletin board": (318,), "shower": (2356,), "radiator": (2046,), "glass": (1098,), "clock": (530,),
    "flag": (954,),
}
# fmt: on
"""Of each class, in the benchmark's order, the numbers of the full release (from 1)."""

CLASSES = tuple(NUMBERS)

_MOST = 26 * 256
"""Numbers that `_seg.png` can code: red / 10 is at most 25."""


def release_numbers(seg: Array) -> Array:
    """(H, W) int64 class numbers of a `_seg.png` of the full release, 0 for none: R / 10 * 256 + G (its readme).

    Args:
        seg: (H, W, 3) uint8 RGB.
    """
    return seg[..., 0].astype(np.int64) // 10 * 256 + seg[..., 1]


def release_classes(numbers: Array) -> Array:
    """(H, W) uint8 classes of the benchmark, 255 where a number is none of them."""
    return _OF_NUMBER[numbers]


def benchmark_classes(stored: Array) -> Array:
    """(H, W) uint8 classes of a PNG of the benchmark, where 0 is "other" and 1 to 150 are the classes; 255 for other.

    Raises:
        ValueError: other indices, which are named.
    """
    strange = np.unique(stored[stored > len(CLASSES)])
    if strange.size:
        raise ValueError(f"indices {', '.join(map(str, strange[:5].tolist()))}, expected 0 to {len(CLASSES)}")
    return np.where(stored == 0, VOID, stored - np.uint8(1)).astype(np.uint8)


def _table() -> Array:
    found = np.full(_MOST, VOID, np.uint8)
    for index, numbers in enumerate(NUMBERS.values()):
        found[list(numbers)] = index
    return found


_OF_NUMBER = _table()
