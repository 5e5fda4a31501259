"""Frames that were calibrated with are refused as frames to measure on, where only fingerprints of them travel, too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_mtl.bundle import OPTIMIZED_ONNX, RECORDED, Bundle, new_revision
from edge_mtl.calibration.frame_features import thumbnail
from edge_mtl.calibration.leakage import fingerprint, refuse_calibrated
from edge_mtl.errors import CalibrationError
from edge_mtl.quantization.recorded import write_recorded
from edge_mtl.quantization.recording import record
from tests.bundles import make_bundle, make_image

FRAMES = [make_image(seed) for seed in range(60, 68)]
CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "the same": lambda image: image,
    "encoded again": lambda image: cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 60])[1], 1),
    "smaller": lambda image: cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
    "darker": lambda image: (image * 0.6).astype(np.uint8),
    "grainy": lambda image: np.clip(image + np.random.default_rng(0).normal(0, 8, image.shape), 0, 255).astype(np.uint8),
}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Statistics of `FRAMES` in place of frames."""
    made = make_bundle(tmp_path_factory.mktemp("bundles") / "tiny", calibration=0)
    prints = np.stack([fingerprint(thumbnail(frame)[0]) for frame in FRAMES])
    payload = write_recorded(record(made.read(OPTIMIZED_ONNX), FRAMES, fingerprints=prints, threads=1))

    def change(folder: Path) -> None:
        (folder / RECORDED).parent.mkdir(exist_ok=True)
        (folder / RECORDED).write_bytes(payload)

    return new_revision(made, change)


@pytest.mark.parametrize("change", list(CHANGES))
def test_a_frame_that_was_calibrated_with_is_known_again(bundle: Bundle, change: str) -> None:
    for number, frame in enumerate(FRAMES):
        with pytest.raises(CalibrationError, match=f"x is calibration frame {number}. Measure on other frames"):
            refuse_calibrated(bundle, {"x": thumbnail(CHANGES[change](frame))})


def test_other_frames_are_welcome(bundle: Bundle) -> None:
    refuse_calibrated(bundle, {str(seed): thumbnail(make_image(seed)) for seed in range(1000, 1200)})


def test_flat_frames_match_nothing(bundle: Bundle) -> None:
    refuse_calibrated(bundle, {"grey": thumbnail(np.full((64, 96, 3), 90, np.uint8))})


def test_a_fingerprint_is_the_angle_between_thumbnails() -> None:
    random = np.random.default_rng(1)
    one, other = (random.normal(0, 1, 192).astype(np.float32) for _ in range(2))
    for share in (0.0, 0.1, 0.5, 1.0):
        mixed = (1 - share) * one + share * other
        cosine = float(one @ mixed / np.linalg.norm(one) / np.linalg.norm(mixed))
        found = np.unpackbits(fingerprint(one) ^ fingerprint(mixed)).mean()
        assert found == pytest.approx(np.arccos(np.clip(cosine, -1, 1)) / np.pi, abs=0.05)
    assert fingerprint(one).shape == (128,)


def test_fingerprints_are_the_same_on_every_machine() -> None:
    whole = np.arange(-96, 96).astype(np.float32)  # sums of whole numbers are exact in any order
    assert fingerprint(whole)[:8].tolist() == [63, 0, 45, 198, 165, 12, 16, 221]
