"""Labels in training: their confidence is that of the product."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mtl.tasks.labels import LabelsHead

from edge_mtl.image.buffer_pool import BufferPool
from edge_mtl.image.upsample import upsampled_argmax, upsampled_confidence
from edge_mtl.tasks import KINDS

pytestmark = pytest.mark.training

SPEC = KINDS["labels"].spec("lane", {"classes": ["background", "line", "crosswalk"]})


def test_the_confidence_of_labels_is_the_softmax_of_the_chosen_class_as_on_a_device():
    logits = np.random.default_rng(0).normal(0, 3, (3, 8, 10)).astype(np.float32)
    size, camera, pool = (32, 40), (30.0, 30.0, 19.5, 15.5), BufferPool()
    with torch.inference_mode():
        answer = torch.from_numpy(logits)[None]
    found = LabelsHead().result(SPEC, answer, size, seen_by=camera, camera=camera)
    assert found.confidence is not None
    np.testing.assert_allclose(found.confidence, upsampled_confidence(logits, size, pool=pool), atol=2e-4)
    assert np.mean(found.labels == upsampled_argmax(logits, size, pool=pool)) > 0.999
    assert found.confidence.dtype == np.float32
