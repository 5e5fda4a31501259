"""Objects beside labelled frames: what is written is read, what is not in the format is refused with what was found."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from edge_mtl.errors import BundleError
from edge_mtl.image.frames import Intrinsics, letterbox
from edge_mtl.tasks import kind_of
from tests.unit.edge_mtl.tasks import box_fixtures as made

SIZE = (48, 64)
SPEC = made.a_spec()
KIND = kind_of(SPEC)


@dataclass
class Files:
    """Files in memory."""

    content: dict[str, bytes] = field(default_factory=dict)

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self.content)

    def read(self, name: str) -> bytes:
        return self.content[name]

    def where(self, name: str) -> str:
        return f"folder/{name}"


def read(content: Any) -> Any:
    payload = content if isinstance(content, bytes) else json.dumps(content).encode()
    return KIND.read_truth(SPEC, "one", SIZE, Files({"one.objects.json": payload}))


def one(**changes: Any) -> dict[str, Any]:
    return {"boxes": [{"class": "class 1", "xyxy": [1, 2, 30, 40]} | changes]}


def test_what_is_written_is_read() -> None:
    boxes = np.random.default_rng(0).uniform([-0.5, -0.5, 32, 24], [31, 23, 63.5, 47.5], (7, 4)).astype(np.float32)
    truth = made.truth(boxes, [0, 1, 2, 0, 1, 2, 0], [False] * 6 + [True])
    ((ending, payload),) = KIND.write_truth(SPEC, truth).items()
    assert (ending,) == KIND.truth_endings(SPEC) == (".objects.json",)
    again = KIND.read_truth(SPEC, "one", SIZE, Files({f"one{ending}": payload}))
    assert again.xyxy.dtype == np.float32
    np.testing.assert_array_equal(again.xyxy, boxes)
    assert (again.classes.tolist(), again.crowd.tolist()) == (truth.classes.tolist(), truth.crowd.tolist())


def test_no_file_is_no_truth_and_an_empty_list_is_a_frame_without_objects() -> None:
    assert KIND.read_truth(SPEC, "one", SIZE, Files()) is None
    nothing = read({"boxes": []})
    assert (nothing.xyxy.shape, nothing.classes.shape, nothing.crowd.shape) == ((0, 4), (0,), (0,))
    assert KIND.fit_truth(SPEC, nothing, letterbox(SIZE, (64, 96))).xyxy.shape == (0, 4)


def test_answers_as_files_are_read_as_truths() -> None:
    found = made.boxes(SPEC, [[1, 2, 30, 40], [5, 5, 20, 20]], [0.9, 0.4], [1, 2])
    ((name, payload),) = KIND.images(SPEC, found).items()
    assert [entry["score"] for entry in json.loads(payload)["boxes"]] == [0.9, 0.4]
    again = KIND.read_truth(SPEC, "one", SIZE, Files({f"one.{name}": payload}))
    assert (again.xyxy.tolist(), again.classes.tolist()) == (found.xyxy.tolist(), [1, 2])


def test_a_box_a_pixel_beyond_its_frame_is_cut_off() -> None:
    assert read(one(xyxy=[-1.5, 2, 64.5, 40])).xyxy.tolist() == [[-0.5, 2, 63.5, 40]]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\xff\xfe", "should hold JSON"),
        (b"{", "should hold JSON"),
        (b"[" * 100_000, "should hold JSON"),
        ([], "should hold an object; found list"),
        ({"objects": []}, 'a list of "boxes"; found None'),
        ({"boxes": {}}, 'a list of "boxes"; found {}'),
        ({"boxes": [[1, 2, 3, 4]]}, "box 0 should be an object"),
        (one(**{"class": "sofa"}), "of a class of the task, class 0, class 1, class 2; found 'sofa'"),
        (one(**{"class": 1}), "of a class of the task, .*; found 1"),
        (one(xyxy=[1, 2, 3]), r"four numbers as xyxy; found \[1, 2, 3\]"),
        (one(xyxy=[1, 2, "3", 4]), "four numbers as xyxy"),
        (one(xyxy=[1, 2, True, 4]), "four numbers as xyxy"),
        (one(xyxy=[1, 2, 10**400, 4]), r"four numbers as xyxy; found \[1, 2, 1000"),
        (one(xyxy=[-(10**400), 2, 3, 4]), "four numbers as xyxy"),
        (b'{"boxes": [{"class": "class 1", "xyxy": [1, 2, NaN, 4]}]}', "four numbers as xyxy"),
        (one(xyxy=[20, 20, 10, 10]), r"left < right and top < bottom; found \[20, 20, 10, 10\].*width and height"),
        (one(xyxy=[5, 5, 5, 9]), "left < right"),
        (one(xyxy=[10, 10, 70, 40]), r"within its frame of 48x64; found \[10, 10, 70, 40\]"),
        (one(xyxy=[-9, 10, 30, 40]), "within its frame"),
        (one(crowd=1), "a crowd, true or false; found 1"),
        ({"boxes": 2 * [{"class": "class 1", "xyxy": [0.1, 0.2, 0.8, 0.9]}]}, "shares of the frame"),
    ],
)
def test_what_is_not_in_the_format_is_refused_with_what_was_found(content: Any, said: str) -> None:
    with pytest.raises(BundleError, match=said) as error:
        read(content)
    assert "folder/one.objects.json" in str(error.value)


def test_boxes_move_with_their_letterboxed_frame() -> None:
    box = letterbox((480, 640), (64, 96))
    fitted = KIND.fit_truth(SPEC, made.truth([[-0.5, -0.5, 639.5, 479.5], [100, 50, 300, 200]], [0, 1]), box)
    whole = [box.left - 0.5, box.top - 0.5, box.left + box.content[1] - 0.5, box.top + box.content[0] - 0.5]
    assert fitted.xyxy[0].tolist() == whole
    corners = [box.to_network(Intrinsics(100, 100, x, y)) for x, y in ((100, 50), (300, 200))]
    assert fitted.xyxy[1].tolist() == pytest.approx([value for camera in corners for value in (camera.cx, camera.cy)])


def test_truths_are_drawn_without_crowds_and_scores() -> None:
    result = KIND.of_truth(SPEC, made.truth([[1, 2, 30, 40], [5, 5, 20, 20]], [1, 2], [False, True]))
    assert (result.names, result.scores.tolist()) == (("class 1",), [1.0])
