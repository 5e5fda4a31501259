import contextlib
import dataclasses
import importlib.util
import inspect
import json
import os
import shutil
import stat
import warnings
from datetime import datetime, timedelta, timezone

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_mtl import bundle as bundles
from edge_mtl.bundle import BUNDLED, SIGNATURE, Bundle, bundled, find, new_revision, write_bundle
from edge_mtl.errors import BundleError, SignatureError
from edge_mtl.manifest import InputSpec, Manifest
from edge_mtl.signing.bundles import sign_bundle
from edge_mtl.signing.keys import SecretKey
from edge_mtl.tasks import TASK_NAMES
from tests.bundles import safetensors, study_specs

KEY = SecretKey(b"testkey1", bytes(range(32)))
signs = pytest.mark.skipif(
    importlib.util.find_spec("cryptography") is None, reason='needs the extra sign: pip install "edge-mtl[sign]"'
)


def make(path, *, tasks=TASK_NAMES, content=b"graph", **options):
    def fill(folder):
        (folder / "model.onnx").write_bytes(content)
        (folder / "golden").mkdir()
        (folder / "golden" / "000.npz").write_bytes(b"reference")

    return write_bundle(
        path,
        fill,
        name="tiny",
        tasks=study_specs(tasks),
        input=InputSpec(64, 96),
        canonical_intrinsics=(88.0, 88.0, 47.5, 31.5),
        provenance={"dataset": "none"},
        accuracy={"fp32": {"miou": 0.5}},
        calibration={"count": 0},
        **options,
    )


@pytest.fixture
def bundle(tmp_path):
    return make(tmp_path / "tiny")


@pytest.fixture
def assembled(tmp_path):
    """A bundle that stores its weights once, apart from the graph."""
    values = np.random.default_rng(0).normal(0, 1, (40, 50)).astype(np.float32)
    graph = onnx.helper.make_graph([], "g", [], [], [onnx.numpy_helper.from_array(values, "w")])

    def fill(folder):
        (folder / "model.onnx").write_bytes(onnx.helper.make_model(graph).SerializeToString())
        (folder / "weights.safetensors").write_bytes(safetensors({"w": values}))

    return write_bundle(
        tmp_path / "assembled", fill, name="it", tasks=study_specs(("depth",)), input=InputSpec(64, 96),
        canonical_intrinsics=(1, 1, 0, 0), provenance={}, accuracy={}, calibration={},
    )  # fmt: skip


def edit_manifest(bundle, change):
    path = bundle.path / "manifest.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_what_is_written_is_read_back(bundle):
    opened = Bundle.open(bundle.path)
    assert opened == bundle
    assert opened.tasks == TASK_NAMES
    assert opened.manifest.input == InputSpec(64, 96)
    assert opened.read("model.onnx") == b"graph"
    assert opened.list("golden", suffixes=(".npz",)) == ("golden/000.npz",)
    opened.verify()


def test_a_subset_of_the_tasks_keeps_the_usual_order(tmp_path):
    assert make(tmp_path / "b", tasks=("normals", "segmentation")).tasks == ("segmentation", "normals")


@pytest.mark.parametrize("damage", [b"", b"grap", b"graphs", b"grapH"])
def test_an_altered_file_is_refused(bundle, damage):
    (bundle.path / "model.onnx").write_bytes(damage)
    with pytest.raises(BundleError, match="was altered"):
        bundle.read("model.onnx")
    with pytest.raises(BundleError, match="was altered"):
        bundle.verify()


@pytest.mark.parametrize(("key", "wrong"), [("sha256", "0" * 64), ("sha256", "f" * 64), ("size", 1), ("size", -1)])
def test_what_is_assembled_is_held_against_the_manifest_too(assembled, key, wrong):
    whole = assembled.read("model.onnx")
    assert assembled.manifest.assembled.keys() == {"model.onnx", "weights.safetensors"}
    assert assembled.entry("model.onnx").size == len(whole)
    assert not (assembled.path / "model.onnx").exists()
    assembled.verify()
    wrong = wrong if key == "sha256" else len(whole) + wrong
    edit_manifest(assembled, lambda content: content["assembled"]["model.onnx"].update({key: wrong}))
    altered = Bundle.open(assembled.path)
    for attempt in (lambda: altered.read("model.onnx"), altered.verify):
        with pytest.raises(BundleError, match=r"model\.onnx was assembled from other parts.* Restore it"):
            attempt()
    assert altered.read("weights.safetensors"), "what is not altered can be read"


def test_parts_that_are_not_listed_are_not_read(assembled):
    edit_manifest(assembled, lambda content: content["files"].pop("model.onnx.parts"))
    altered = Bundle.open(assembled.path)
    with pytest.raises(BundleError, match=r"has no model\.onnx\.parts: its manifest does not list it"):
        altered.read("model.onnx")


def test_checking_says_each_file_once_it_is_checked(bundle):
    checked = []
    bundle.verify(progress=checked.append)
    assert checked == ["golden/000.npz", "model.onnx"]
    (bundle.path / "model.onnx").write_bytes(b"grapH")
    checked.clear()
    with pytest.raises(BundleError):
        bundle.verify(progress=checked.append)
    assert checked == ["golden/000.npz"]


def test_what_a_bundle_has_is_what_can_be_read(bundle, assembled):
    for each in (bundle, assembled):
        assert [each.has(name) for name in ("model.onnx", "manifest.json", "model.deploy.onnx")] == [True, False, False]
        with pytest.raises(BundleError, match=r"has no model\.deploy\.onnx: its manifest does not list it"):
            each.entry("model.deploy.onnx")
    assert assembled.has("weights.safetensors")
    assert bundle.entry("model.onnx").size == 5
    assert bundle.name == "tiny"


def test_files_are_listed_by_folder_and_suffix(bundle):
    def more(folder):
        for name in ("golden/b.txt", "golden/a.npz", "golden2/x.npz"):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(b"x")

    made = new_revision(bundle, more)
    assert made.list("golden") == made.list("golden/") == ("golden/000.npz", "golden/a.npz", "golden/b.txt")
    assert made.list("golden", suffixes=(".npz",)) == ("golden/000.npz", "golden/a.npz")
    assert made.list("golden", suffixes=(".txt", ".png")) == ("golden/b.txt",)
    assert made.list("gold") == ()


def test_an_open_bundle_is_a_value(bundle):
    with pytest.raises(AttributeError):
        bundle.digest = "0" * 64
    with pytest.raises(AttributeError):
        bundle.manifest.revision = 7
    with pytest.raises(AttributeError):
        bundle.manifest.input.height = 7
    with pytest.raises(AttributeError):
        bundle.manifest.files["model.onnx"].size = 7
    for value in (bundle, bundle.manifest, bundle.manifest.input, bundle.entry("model.onnx")):
        assert not hasattr(value, "__dict__"), "there are thousands of some"


def test_a_missing_file_is_named(bundle):
    os.unlink(bundle.path / "model.onnx")
    with pytest.raises(BundleError, match=r"model\.onnx.*cannot be read"):
        bundle.read("model.onnx")


@pytest.mark.parametrize("name", ["extra", "zzz", "golden/extra", "golden/engines", "manifest.json.old"])
def test_a_file_that_is_not_listed_is_refused(bundle, name):
    (bundle.path / name).write_text("x")
    with pytest.raises(BundleError, match="not listed"):
        bundle.verify()
    with pytest.raises(BundleError, match="does not list"):
        bundle.read(name)


@pytest.mark.parametrize(("size", "found"), [(4, 5), (6, 5)])
def test_a_file_of_another_size_is_refused_with_both(bundle, size, found):
    edit_manifest(bundle, lambda content: content["files"]["model.onnx"].update(size=size))
    with pytest.raises(BundleError, match=f"was altered: {size} bytes expected, {found} found"):
        Bundle.open(bundle.path).read("model.onnx")


@pytest.mark.parametrize("digest", ["0" * 64, "f" * 64])
def test_a_file_of_another_digest_is_refused(bundle, digest):
    edit_manifest(bundle, lambda content: content["files"]["model.onnx"].update(sha256=digest))
    with pytest.raises(BundleError, match="was altered: its SHA-256 differs"):
        Bundle.open(bundle.path).read("model.onnx")


def test_engines_are_local_and_not_part_of_the_hashes(bundle):
    (bundle.path / "engines").mkdir()
    (bundle.path / "engines" / "abc.onnx").write_text("x")
    bundle.verify()


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../x", "a\\b", "", "a//b", "./a"])
def test_a_manifest_cannot_point_outside_the_bundle(bundle, path):
    edit_manifest(bundle, lambda content: content["files"].update({path: {"sha256": "0" * 64, "size": 1}}))
    with pytest.raises(BundleError, match="leaves the bundle"):
        Bundle.open(bundle.path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(format_version=99), "format_version 99"),
        (lambda c: c.pop("input"), "'input' is missing"),
        (lambda c: c.update(tasks={}), "at least one task; found none"),
        (
            lambda c: c.update(tasks={"edges": {"kind": "edges"}}),
            "of the kind 'edges'; this edge_mtl knows labels, depth, normals",
        ),
        (lambda c: c.update(tasks={"Edges": {"kind": "labels"}}), "names of tasks should match"),
        (lambda c: c.update(tasks={"segmentation": 3}), "the task segmentation should be an object"),
        (lambda c: c["tasks"]["segmentation"].update(classes=5), "classes of segmentation"),
        (lambda c: c["tasks"]["segmentation"].update(classes=["bed", 1]), "classes of segmentation"),
        (lambda c: c["input"].update(height=-1), "1 to 8192"),
        (lambda c: c["input"].update(channels="bgr"), "rgb"),
        (lambda c: c.update(canonical_intrinsics=[1, 2]), "4 numbers"),
        (lambda c: c.update(canonical_intrinsics=[0, 1, 2, 3]), "positive"),
        (lambda c: c["files"]["model.onnx"].update(sha256="zz"), "sha256"),
        (lambda c: c.update(canonical_intrinsics=[1, 1, float("inf"), 1]), "finite"),
        (lambda c: c.update(calibration={"share": float("nan")}), "finite"),
        (lambda c: c.update(files=[]), "files should be an object"),
        (lambda c: c.update(revision="x"), "revision"),
        (lambda c: c.update(parent=9), "parent"),
        (lambda c: c.update(accuracy={"fp32": 3}), "accuracy"),
        (lambda c: c.update(accuracy={"fp32": {"class_iou": [1]}}), "accuracy"),
        (lambda c: c.update(name=""), "name"),
        (lambda c: c.update(measurements=[]), "measurements should be an object"),
        (lambda c: c.update(measurements={"NYUv2": 3}), "NYUv2 should be an object"),
        (lambda c: c.update(measurements={"NYUv2": {"frames": 654}}), "'NYUv2' should have figures by graph"),
        (lambda c: c.update(measurements={"NYUv2": {"graphs": {"fp32": "good"}}}), "graphs of 'fp32' should be numbers"),
    ],
)
def test_an_invalid_manifest_says_what_is_wrong(bundle, change, message):
    edit_manifest(bundle, change)
    with pytest.raises(BundleError, match=message):
        Bundle.open(bundle.path)


def test_a_number_that_no_revision_could_write_again_is_refused(bundle):
    text = (bundle.path / "manifest.json").read_text()
    (bundle.path / "manifest.json").write_text(text.replace('"calibration": {', '"calibration": {"share": 1e999, ', 1))
    with pytest.raises(BundleError, match="finite; found 1e999"):
        Bundle.open(bundle.path)


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_a_mutated_manifest_never_raises_anything_else(data):
    manifest = Manifest(
        "tiny",
        1,
        study_specs(TASK_NAMES),
        InputSpec(64, 96),
        (88.0, 88.0, 47.5, 31.5),
        {"a": bundles.FileEntry("0" * 64, 1)},
    )
    payload = bytearray(manifest.to_json())
    for _ in range(data.draw(st.integers(1, 4))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(BundleError):
        Manifest.from_json(bytes(payload), source=bundles.DEMO_BUNDLE)


SCALARS = st.none() | st.booleans() | st.integers(-5, 5) | st.floats() | st.text(max_size=3)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
)


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_any_value_in_any_place_of_a_manifest_is_accepted_or_a_bundle_error(data):
    accuracy = {"fp32": {"miou": 0.5, "class_iou": {"bed": 0.25}}}
    files = {"a": bundles.FileEntry("0" * 64, 1)}
    camera = (88.0, 88.0, 47.5, 31.5)
    manifest = Manifest("tiny", 1, study_specs(TASK_NAMES), InputSpec(64, 96), camera, files, accuracy=accuracy)
    content = json.loads(manifest.to_json())
    place = content
    while True:
        key = data.draw(st.sampled_from(list(place) if isinstance(place, dict) else range(len(place))))
        if not place[key] or not isinstance(place[key], (dict, list)) or data.draw(st.booleans()):
            break
        place = place[key]
    place[key] = data.draw(VALUES)
    with contextlib.suppress(BundleError):
        opened = Manifest.from_json(json.dumps(content).encode(), source=bundles.DEMO_BUNDLE)
        with contextlib.suppress(ValueError):  # a number that is none, in free text
            Manifest.from_json(opened.to_json(), source=bundles.DEMO_BUNDLE)


def test_a_missing_bundle_names_the_command_that_makes_one(tmp_path):
    with pytest.raises(BundleError, match=r"python train/train\.py"):
        Bundle.open(tmp_path / "nothing")
    with pytest.raises(BundleError, match=r"no manifest\.json"):
        Bundle.open(tmp_path)


def test_a_file_in_the_place_of_a_bundle_is_called_one(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(BundleError, match=r"file is not a bundle but a file\. Make one with"):
        Bundle.open(tmp_path / "file")


def test_a_manifest_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "manifest.json").mkdir()
    with pytest.raises(BundleError, match=r"manifest\.json cannot be read"):
        Bundle.open(tmp_path)
    with pytest.raises(BundleError, match="cannot be read"):
        Bundle.open("a\0b")


def test_a_manifest_has_at_most_four_megabytes(bundle):
    path = bundle.path / "manifest.json"
    content, most = path.read_bytes(), 4 * 1024 * 1024
    path.write_bytes(content + b" " * (most - len(content)))
    assert Bundle.open(bundle.path).manifest == bundle.manifest
    path.write_bytes(content + b" " * (most - len(content) + 1))
    with pytest.raises(BundleError, match="larger than 4194304 bytes: not a manifest"):
        Bundle.open(bundle.path)


def test_find_prefers_the_path_then_the_variable_then_the_newest(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EDGE_MTL_BUNDLE", raising=False)
    old, new = make(tmp_path / "bundles" / "old"), make(tmp_path / "bundles" / "new", content=b"newer")
    os.utime(old.path / "manifest.json", (1, 1))
    assert find().path.name == "new"
    assert find(old.path) == old
    monkeypatch.setenv("EDGE_MTL_BUNDLE", str(old.path))
    assert find() == old
    assert find(new.path) == new


def test_the_newest_bundle_is_none_that_was_kept_or_is_not_finished(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    only = make(tmp_path / "bundles" / "only")
    os.utime(only.path / "manifest.json", (1, 1))
    for name in ("only.revision-12", ".tmp-edge-mtl-only.x"):
        make(tmp_path / "bundles" / name)
    assert find().path.name == "only"
    named = make(tmp_path / "bundles" / "a.revision-1b")
    assert find() == Bundle.open(named.path.relative_to(tmp_path)), "a name like any other"


def test_a_bundle_that_is_gone_by_now_is_older_than_any_other_and_has_no_place(tmp_path):
    only = make(tmp_path / "only")
    assert bundles._changed_s(only.path / "manifest.json") > bundles._changed_s(tmp_path / "gone" / "manifest.json")
    assert only.place() != (0, 0)
    shutil.rmtree(only.path)
    assert only.place() == (0, 0)


def test_what_is_gone_is_older_than_a_bundle_of_the_first_second_of_1970(bundle):
    """As archives have them that are made without times."""
    os.utime(bundle.path / "manifest.json", (0.5, 0.5))
    assert bundles._changed_s(bundle.path / "manifest.json") > bundles._changed_s(bundle.path / "gone")


@signs
@pytest.mark.parametrize("digest", ["0" * 64, "f" * 64])
def test_a_bundle_that_was_replaced_is_superseded_and_is_not_the_signed_one(bundle, digest):
    signed = sign_bundle(bundle.path, KEY)
    assert signed.require_signed(KEY.public) == signed
    assert not signed.superseded()
    before = dataclasses.replace(signed, digest=digest)
    assert before.superseded()
    with pytest.raises(BundleError, match=r"tiny was replaced since it was opened\. Open it again"):
        before.require_signed(KEY.public)


def test_a_bundle_that_is_gone_is_superseded_by_none(bundle):
    shutil.rmtree(bundle.path)
    assert not bundle.superseded()


@signs
def test_a_signature_that_is_not_there_or_cannot_be_read_is_named(bundle):
    with pytest.raises(SignatureError, match=r"tiny is not signed: it has no manifest\.json\.minisig\. .*edge-mtl sign .*tiny"):
        Bundle.open(bundle.path, public_key=KEY.public)
    (bundle.path / SIGNATURE).mkdir()
    with pytest.raises(SignatureError, match=r"minisig cannot be read \(no file but a folder, a pipe or a device\)\. Restore"):
        Bundle.open(bundle.path, public_key=KEY.public)


@pytest.mark.parametrize("name", BUNDLED)
def test_a_name_is_that_of_a_bundle_of_the_package_where_no_such_folder_is_here(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EDGE_MTL_BUNDLE", raising=False)
    assert find(name).path == bundled(name)
    assert find(name).name == name
    monkeypatch.setenv("EDGE_MTL_BUNDLE", name)
    assert find().path == bundled(name)
    own = make(tmp_path / name)
    assert find(name).digest == own.digest, "a folder goes first"


def test_the_demo_bundle_is_used_where_nothing_else_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EDGE_MTL_BUNDLE", raising=False)
    assert find().path == bundles.DEMO_BUNDLE == bundled(BUNDLED[0])


def test_a_name_of_nothing_names_the_bundles_that_there_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BundleError, match=r"No bundle at rooms-b1: no such folder.*\(indoor-lite0, indoor-b0, rooms-b0\)"):
        find("rooms-b1")
    with pytest.raises(BundleError, match=r"those are indoor-lite0, indoor-b0, rooms-b0"):
        bundled("rooms-b1")
    with pytest.raises(BundleError, match=r"no such folder\. Make one"):
        find("bundles/rooms-b0")
    with pytest.raises(BundleError, match="No bundle"):
        find("x" * 5000)


def test_find_says_so_when_there_is_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EDGE_MTL_BUNDLE", raising=False)
    monkeypatch.setattr(bundles, "DEMO_BUNDLE", tmp_path / "none")
    with pytest.raises(BundleError, match="No bundle"):
        find()


def test_a_failed_write_leaves_nothing(tmp_path):
    def fill(folder):
        (folder / "model.onnx").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(BundleError, match="Nothing was left behind"):
        write_bundle(
            tmp_path / "b", fill, name="b", tasks=study_specs(("depth",)), input=InputSpec(64, 96),
            canonical_intrinsics=(1, 1, 0, 0), provenance={}, accuracy={}, calibration={},
        )  # fmt: skip
    assert list(tmp_path.iterdir()) == []


def test_an_existing_bundle_is_replaced_only_when_asked(bundle):
    with pytest.raises(BundleError, match=r"tiny exists already\. Remove it or choose another name"):
        make(bundle.path)
    assert make(bundle.path, replace=True, content=b"other").read("model.onnx") == b"other"


def test_a_new_revision_keeps_the_old_one(bundle):
    changed = new_revision(bundle, lambda folder: (folder / "model.onnx").write_bytes(b"new"), accuracy={"int8": {"miou": 0.4}})
    assert changed.manifest.revision == 2
    assert changed.read("model.onnx") == b"new"
    assert changed.manifest.accuracy == {"int8": {"miou": 0.4}}
    kept = Bundle.open(bundle.path.with_name("tiny.revision-1"))
    assert kept.digest == bundle.digest
    kept.verify()


def test_a_new_revision_keeps_what_it_is_not_told_to_change(bundle):
    first = bundle.manifest
    same = new_revision(bundle).manifest
    assert dataclasses.replace(same, revision=1, parent=0, created=first.created) == first
    assert (same.revision, same.parent) == (2, 1)
    told = {
        "accuracy": {"int8": {"miou": 0.4}},
        "calibration": {"count": 7},
        "card": {"worst": 1},
        "measurements": {"NYUv2": {"graphs": {"fp32": {"miou": 0.5}}}},
        "tasks": study_specs(("depth",)),
        "provenance": {"dataset": "another"},
    }
    changed = new_revision(Bundle.open(bundle.path), revision=9, **told).manifest
    assert dataclasses.replace(changed, revision=1, parent=0, created=first.created) == dataclasses.replace(first, **told)
    assert (changed.revision, changed.parent) == (9, 2)
    emptied = new_revision(
        Bundle.open(bundle.path), accuracy={}, calibration={}, card={}, measurements={}, provenance={}
    ).manifest
    assert (emptied.accuracy, emptied.calibration, emptied.card, emptied.measurements, emptied.provenance) == ({},) * 5
    assert [path.name for path in sorted(bundle.path.parent.iterdir())] == ["tiny", *(f"tiny.revision-{n}" for n in (1, 2, 9))]


@signs
def test_a_new_revision_of_a_signed_bundle_warns_its_caller_that_it_is_not_signed(bundle):
    sign_bundle(bundle.path, KEY)
    with pytest.warns(UserWarning, match=r"is now revision 2, which is not signed.* stays with revision 1\. Sign") as caught:
        second = new_revision(bundle)
    assert [warning.filename for warning in caught] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert new_revision(second).manifest.revision == 3


def test_a_new_revision_has_the_files_of_folders_in_folders(bundle):
    def deeper(folder):
        (folder / "a" / "b" / "c").mkdir(parents=True)
        (folder / "a" / "b" / "c" / "d.bin").write_bytes(b"d")

    first = new_revision(bundle, deeper)
    second = new_revision(first)
    assert second.read("a/b/c/d.bin") == b"d"
    assert second.manifest.files == first.manifest.files


def test_a_bundle_says_when_it_was_made_in_utc_to_the_second(bundle):
    for manifest in (bundle.manifest, new_revision(bundle).manifest):
        made = datetime.fromisoformat(manifest.created)
        assert (made.utcoffset(), made.microsecond) == (timedelta(0), 0)
        assert abs(datetime.now(timezone.utc) - made) < timedelta(minutes=10)


def test_engines_of_the_old_revision_stay_with_it_and_unlisted_files_are_not_copied(bundle):
    (bundle.path / "engines").mkdir()
    (bundle.path / "engines" / "abc.onnx").write_text("x")

    def change(folder):
        (folder / "engines").mkdir()
        (folder / "engines" / "new.onnx").write_text("y")

    made = new_revision(bundle, change)
    assert [path.name for path in (made.path / "engines").iterdir()] == ["new.onnx"]
    assert made.manifest.files.keys() == bundle.manifest.files.keys()
    made.verify()
    assert [path.name for path in (bundle.path.with_name("tiny.revision-1") / "engines").iterdir()] == ["abc.onnx"]


def test_a_revision_of_an_altered_bundle_is_refused_and_changes_nothing(bundle):
    (bundle.path / "model.onnx").write_bytes(b"evil!")
    with pytest.raises(BundleError, match="altered"):
        new_revision(bundle)
    assert Bundle.open(bundle.path).manifest.revision == 1
    assert [entry.name for entry in bundle.path.parent.iterdir()] == ["tiny"]


@pytest.mark.parametrize("name", ["manifest.json", "golden/000.npz"])
@pytest.mark.parametrize("kind", ["pipe", "device", "link to a device", "folder"])
def test_what_is_no_file_is_refused_and_not_waited_for(bundle, name, kind):
    """A pipe and /dev/zero say that they are 0 bytes long: reading them would not end."""
    edit_manifest(bundle, lambda content: content["files"]["golden/000.npz"].update(size=0))
    path = bundle.path / name
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        try:
            os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))
        except PermissionError:
            pytest.skip("only root makes devices")
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(BundleError, match=r"cannot be read|was altered"):
        Bundle.open(bundle.path).verify()


def test_a_file_that_is_exchanged_once_it_was_hashed_changes_nothing(bundle, monkeypatch):
    """The bytes that were hashed are those that are given: the file is not looked at again."""
    real = bundles.sha256_bytes

    def exchanging(payload):
        for name in ("model.onnx", "manifest.json"):
            (bundle.path / name).write_bytes(b"another")
        return real(payload)

    monkeypatch.setattr(bundles, "sha256_bytes", exchanging)
    assert bundle.read("model.onnx") == b"graph"
    assert bundle.manifest.name == "tiny"


def test_a_file_may_be_a_link_to_a_file(bundle, tmp_path):
    """As stores of files by their content keep them; what is read is hashed all the same."""
    os.replace(bundle.path / "model.onnx", tmp_path / "elsewhere")
    (bundle.path / "model.onnx").symlink_to(tmp_path / "elsewhere")
    bundle.verify()
    (tmp_path / "elsewhere").write_bytes(b"other")
    with pytest.raises(BundleError, match="was altered"):
        bundle.read("model.onnx")


def test_a_link_to_a_folder_that_is_not_listed_is_refused(bundle):
    (bundle.path / "more").symlink_to("/etc")
    with pytest.raises(BundleError, match="not listed"):
        bundle.verify()


@pytest.mark.parametrize(
    ("call", "names"),
    [
        (Bundle.open, ["public_key"]),
        (find, ["public_key"]),
        (Bundle.list, ["suffixes"]),
        (Bundle.verify, ["progress"]),
        (Manifest.from_json, ["source"]),
        (new_revision, ["accuracy", "calibration", "card", "measurements", "tasks", "provenance", "revision"]),
        (
            write_bundle,
            ["name", "tasks", "input", "canonical_intrinsics", "provenance", "accuracy", "calibration", "revision", "replace"],
        ),
    ],
)
def test_options_are_given_by_name(call, names):
    parameters = inspect.signature(call).parameters
    assert [name for name in parameters if parameters[name].kind is inspect.Parameter.KEYWORD_ONLY] == names
