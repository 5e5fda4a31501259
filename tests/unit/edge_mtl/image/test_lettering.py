"""Names in any script: what the font has is written, the rest without accents or as code points, never as question marks."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from edge_mtl.image import lettering
from edge_mtl.image.lettering import legible, put_text, text_width
from edge_mtl.image.panel import legend
from edge_mtl.tasks import read_tasks

NAMES = ("Straße", "Tür", "стена", "椅子", "🪑", "कुर्सी", "ﬁsh", "a\u200cb")


@pytest.fixture(params=["outline", "stroke"])
def font(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both kinds of font; stroke fonts are what OpenCV 4 has."""
    if request.param == "outline" and not hasattr(cv2, "FontFace"):
        pytest.skip("this OpenCV has stroke fonts only")
    if request.param == "stroke":
        monkeypatch.setattr(lettering, "_outline_font", lambda: None)
    lettering._legible.cache_clear()
    yield request.param
    lettering._legible.cache_clear()


def drawn(text: str) -> np.ndarray:
    canvas = np.zeros((40, 600, 3), np.uint8)
    put_text(canvas, text, (2, 28), size=20, colour=(255, 255, 255))
    return canvas


@pytest.mark.parametrize("name", NAMES)
def test_no_name_turns_into_question_marks(name: str, font: str) -> None:
    shown = legible(name)
    assert shown
    assert "?" not in shown
    assert text_width(name, size=20) == text_width(shown, size=20) > 0
    assert not np.array_equal(drawn(name), drawn("?" * len(name)))
    if font == "stroke":
        assert shown.isascii()


def test_what_the_font_lacks_is_written_another_way(font: str) -> None:
    assert legible("🪑") == "<1FA91>"
    assert legible("plain [x] %") == "plain [x] %"
    if font == "stroke":
        assert (legible("Tür"), legible("椅子"), legible("ﬁsh")) == ("Tur", "<6905><5B50>", "fish")
        assert legible("3×4") == "3x4"
    else:
        assert legible("Tür стена 椅子") == "Tür стена 椅子"


def test_legends_hold_names_of_any_script(font: str) -> None:
    spec = read_tasks({"parts": {"kind": "labels", "classes": list(NAMES)}})["parts"]
    entries = [(name, tuple(colour)) for name, colour in zip(NAMES, spec.palette.tolist(), strict=True)]
    assert legend(entries, 300).shape[0] > legend(entries[:1], 300).shape[0]
