"""manifest.json: each limit from both sides, and what an error says of what it found."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_mtl.errors import BundleError
from edge_mtl.manifest import FORMAT_VERSION, FileEntry, InputSpec, Manifest
from edge_mtl.tasks import TASK_NAMES
from tests.bundles import study_specs

Content = dict[str, Any]
SOURCE = Path("somewhere/manifest.json")


def content_of() -> Content:
    """A manifest with something in every entry, as it is stored."""
    manifest = Manifest(
        name="tiny",
        revision=3,
        tasks=study_specs(TASK_NAMES),
        input=InputSpec(64, 96, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6)),
        canonical_intrinsics=(88.0, 89.0, 47.5, 31.5),
        files={"a": FileEntry("0" * 64, 1)},
        assembled={"b": FileEntry("f" * 64, 2)},
        provenance={"dataset": "none"},
        accuracy={"fp32": {"miou": 0.5, "class_iou": {"bed": 1}}},
        calibration={"count": 2},
        card={"worst": 1},
        measurements={"NYUv2": {"graphs": {"fp32": {"miou": 0.5}}}},
        created="2026-11-30T00:00:00+00:00",
        parent=2,
    )
    content: Content = json.loads(manifest.to_json())
    return content


def read(content: Any) -> Manifest:
    return Manifest.from_json(json.dumps(content).encode(), source=SOURCE)


def test_every_entry_comes_back() -> None:
    content = content_of()
    assert content["format_version"] == FORMAT_VERSION == 2
    assert json.loads(read(content).to_json()) == content


def test_what_is_optional_is_empty_where_it_is_missing() -> None:
    content = content_of()
    for key in ("assembled", "provenance", "accuracy", "calibration", "card", "measurements", "created", "parent"):
        del content[key]
    manifest = read(content)
    assert (manifest.assembled, manifest.provenance, manifest.accuracy, manifest.card) == ({}, {}, {}, {})
    assert (manifest.calibration, manifest.measurements, manifest.created, manifest.parent) == ({}, {}, "", 0)


def test_an_input_is_rgb_and_not_normalised_where_nothing_else_is_said() -> None:
    assert InputSpec(64, 96) == InputSpec(64, 96, channels="rgb", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def test_the_order_in_which_entries_were_made_changes_no_byte() -> None:
    """And so no digest: it is the identity of a revision."""
    manifest = read(content_of() | {"calibration": {"count": 2, "source": "a"}})
    turned = read(content_of() | {"calibration": {"source": "a", "count": 2}})
    assert turned.to_json() == manifest.to_json()


@pytest.mark.parametrize("key", ["tasks", "input", "files", "name", "revision", "canonical_intrinsics"])
def test_what_is_required_is_named_where_it_is_missing(key: str) -> None:
    content = content_of()
    del content[key]
    with pytest.raises(BundleError, match=f"somewhere/manifest.json is not a valid manifest: key '{key}' is missing. Export"):
        read(content)


@pytest.mark.parametrize("payload", [b"", b"{", b"\xff\xfe\xfd", b"[" * 100_000])
def test_what_is_no_json_is_told_so(payload: bytes) -> None:
    with pytest.raises(BundleError, match=r"is not JSON \(.*Restore the bundle from where it came from"):
        Manifest.from_json(payload, source=SOURCE)


@pytest.mark.parametrize(("payload", "found"), [(b"[]", "list"), (b"3", "int"), (b"null", "NoneType")])
def test_what_is_no_object_is_told_so(payload: bytes, found: str) -> None:
    with pytest.raises(BundleError, match=f"should hold a JSON object, found {found}"):
        Manifest.from_json(payload, source=SOURCE)


@pytest.mark.parametrize("version", [0, 3, "2", None])
def test_formats_that_are_not_known_are_refused(version: Any) -> None:
    content = content_of() | {"format_version": version}
    with pytest.raises(BundleError, match=r"has format_version .*; this edge_mtl reads 1 and 2\. Install"):
        read(content)


def test_a_number_that_is_none_is_not_written() -> None:
    with pytest.raises(ValueError, match="JSON"):
        Manifest(
            "tiny", 1, study_specs(("depth",)), InputSpec(64, 96), (1.0, 1.0, 0.0, 0.0), {}, calibration={"count": float("nan")}
        ).to_json()


@pytest.mark.parametrize("side", ["height", "width"])
def test_the_input_is_1_to_8192_pixels_a_side(side: str) -> None:
    for pixels in (1, 8192):
        content = content_of()
        content["input"][side] = pixels
        assert getattr(read(content).input, side) == pixels
    for pixels in (0, -1, 8193):
        content = content_of()
        content["input"][side] = pixels
        with pytest.raises(BundleError, match="input should be 1 to 8192 pixels a side; found"):
            read(content)


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("value", [0.0, -1.0, 1e-9, float("inf"), float("nan")])
def test_focal_lengths_are_positive_and_all_numbers_of_the_camera_finite(place: int, value: float) -> None:
    content = content_of()
    content["canonical_intrinsics"][place] = value
    if value == 1e-9 or (value in (0.0, -1.0) and place >= 2):
        assert read(content).canonical_intrinsics[place] == value
    else:
        with pytest.raises(
            BundleError, match=r"canonical focal lengths should be positive, and all finite|numbers should be finite"
        ):
            read(content)


Change = Callable[[Content], Any]
WRONG: dict[str, tuple[Change, str]] = {
    "no revision before the first": (lambda c: c.update(revision=0, parent=0), "revision should count from 1; found 0"),
    "half a revision": (lambda c: c.update(revision=1.5), "revision should count from 1; found 1.5"),
    "its own parent": (lambda c: c.update(parent=3), "parent should be a revision before 3; found 3"),
    "a parent before all": (lambda c: c.update(parent=-1), "parent should be a revision before 3; found -1"),
    "a parent in words": (lambda c: c.update(parent="1"), "parent should be a revision before 3; found '1'"),
    "a name that is a number": (lambda c: c.update(name=7), "name should be a word; found 7"),
    "no name": (lambda c: c.update(name=""), "name should be a word; found ''"),
    "three numbers of four": (lambda c: c["canonical_intrinsics"].pop(), "canonical_intrinsics should be 4 numbers"),
    "numbers as text": (lambda c: c["input"].update(mean=["a", "b", "c"]), "mean should be 3 numbers"),
    "four of three": (lambda c: c["input"].update(std=[1, 1, 1, 1]), "std should be 3 numbers"),
    "no list": (lambda c: c["input"].update(std={"a": 1, "b": 2, "c": 3}), "std should be 3 numbers"),
    "a short digest": (lambda c: c["files"]["a"].update(sha256="0" * 63), "entry of 'a' should hold sha256 and size"),
    "a long digest": (lambda c: c["files"]["a"].update(sha256="0" * 65), "entry of 'a' should hold sha256 and size"),
    "a digest that is a number": (lambda c: c["files"]["a"].update(sha256=7), "entry of 'a' should hold sha256 and size"),
    "a size below none": (lambda c: c["files"]["a"].update(size=-1), "entry of 'a' should hold sha256 and size"),
    "a size in words": (lambda c: c["files"]["a"].update(size="1"), "entry of 'a' should hold sha256 and size"),
    "assembled from outside": (lambda c: c["assembled"].update({"../b": c["files"]["a"]}), "'../b' leaves the bundle"),
    "a path with a null": (lambda c: c["files"].update({"a\0b": c["files"]["a"]}), "leaves the bundle"),
    "a folder here": (lambda c: c["files"].update({"x/./b": c["files"]["a"]}), "'x/./b' leaves the bundle"),
    "metrics in a list": (lambda c: c.update(accuracy={"fp32": [1]}), "accuracy of 'fp32' should be numbers by name"),
    "a metric in words": (lambda c: c.update(accuracy={"fp32": {"miou": "x"}}), "accuracy of 'fp32' should be numbers by name"),
    "a class in words": (lambda c: c.update(accuracy={"fp32": {"iou": {"bed": "x"}}}), "should be numbers by name"),
    "no graphs": (lambda c: c.update(measurements={"N": {}}), "the measurement 'N' should have figures by graph, found {}"),
    "provenance in a list": (lambda c: c.update(provenance=[]), r"provenance should be an object; found \[\]"),
    "a card in words": (lambda c: c.update(card="good"), "card should be an object; found 'good'"),
    "no height": (lambda c: c["input"].update(height=None), "NoneType"),
    "more than numbers can be": (lambda c: c["input"].update(std=[10**400, 1, 1]), "too large"),
    "a file that is a number": (lambda c: c["files"].update(a=5), "int"),
    "colours of another kind": (lambda c: c["input"].update(channels="yuv"), "input channels should be 'rgb'; found 'yuv'"),
    "colours the other way": (lambda c: c["input"].update(channels="bgr"), "input channels should be 'rgb'; found 'bgr'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said_with_what_was_found(case: str) -> None:
    change, said = WRONG[case]
    content = content_of()
    change(content)
    with pytest.raises(
        BundleError, match=rf"somewhere/manifest\.json is not a valid manifest: .*{said}.*Export the bundle again"
    ):
        read(content)


def test_the_first_revision_has_none_before_it_and_an_empty_file_is_one() -> None:
    content = content_of() | {"revision": 1, "parent": 0}
    content["files"]["a"]["size"] = 0
    manifest = read(content)
    assert (manifest.revision, manifest.parent, manifest.files["a"].size) == (1, 0, 0)


def test_what_was_found_is_shortened_to_eighty_characters() -> None:
    exact = "x" * 78  # with its quotes
    for name, shown in ((exact, repr(exact)), ("x" * 79, "'" + "x" * 76 + "...")):
        content = content_of() | {"card": name}
        with pytest.raises(BundleError) as caught:
            read(content)
        assert f"found {shown}. Export" in str(caught.value)
        assert len(shown) == 80
