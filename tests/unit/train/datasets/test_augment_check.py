"""What a configuration says where augmentation cannot work."""

from __future__ import annotations

import pytest
from mtl.config import ConfigError, apply_overrides, parse_config

pytestmark = pytest.mark.training


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"augment.jpeg": "1.5"}, r"augment\.jpeg is a probability, 0 to 1, found 1\.5"),
        ({"augment.mix": "-0.1"}, r"augment\.mix is a probability"),
        ({"augment.shot_noise": "-1"}, r"augment\.shot_noise should be 0 or more"),
        ({"augment.jpeg_quality": "[90, 30]"}, r"augment\.jpeg_quality should rise within 1 to 100, found \[90, 30\]"),
        ({"augment.erase": "0.5", "augment.mode": "libmtl"}, r"augment\.erase goes with augment\.mode \"consistent\""),
        (
            {"augment.mix": "0.5", "stages": "[{height=32, width=32, steps=1, batch=1}]"},
            r"stages\.0\.batch should be 2 or more",
        ),
        ({"augment.mix_shape": "circle"}, r"augment\.mix_shape should be one of rectangle, classes"),
        ({"data.depth_step_m": "-0.1"}, r"data\.depth_step_m should be 0 or more"),
    ],
)
def test_what_cannot_work_is_refused_and_named(changes: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_config(apply_overrides({}, changes))


def test_truths_that_cannot_be_pasted_are_refused_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    from mtl.tasks import DenseHead, Head

    parse_config(apply_overrides({}, {"augment.mix": "0.5"}))
    monkeypatch.setattr(DenseHead, "pasted", Head.pasted)
    with pytest.raises(ConfigError, match=r"segmentation is of the kind labels, whose truths cannot be pasted"):
        parse_config(apply_overrides({}, {"augment.mix": "0.5"}))
