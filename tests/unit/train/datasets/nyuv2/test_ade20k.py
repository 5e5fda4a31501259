"""The table from ADE20K's classes to those of NYU-13."""

from __future__ import annotations

import numpy as np
import pytest
from mtl.datasets.nyuv2.ade20k import nyu13_of

from edge_mtl.errors import BuildError
from edge_mtl.tasks.nyu13 import NYU13_CLASSES

pytestmark = pytest.mark.training


def test_every_class_of_ade20k_has_one_of_nyu13() -> None:
    table = nyu13_of(151)
    assert {NYU13_CLASSES[index] for index in table} == set(NYU13_CLASSES)
    named = {1: "wall", 4: "floor", 8: "bed", 20: "chair", 24: "sofa", 64: "window", 68: "books", 90: "tv", 0: "objects"}
    assert {number: NYU13_CLASSES[table[number]] for number in named} == named
    assert np.array_equal(nyu13_of(150), table[1:])
    with pytest.raises(BuildError, match="21 classes: expected ADE20K's 150"):
        nyu13_of(21)
