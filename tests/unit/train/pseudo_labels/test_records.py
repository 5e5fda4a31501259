"""Which files are pseudo-labels: recorded before they are there, so that no kill makes one look like a person's work."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from mtl.pseudo_labels import records as module
from mtl.pseudo_labels.records import RECORDS, Entry, Records, Run, locked

from edge_mtl.errors import BuildError
from edge_mtl.files import sha256_bytes

RUN = Run("rooms", 1, "d" * 64, "fp32", "onnxruntime", "1.2", {"lane": {"confidence": 0.9}}, "2026-11-01T00:00:00+00:00", "0.2")
JOURNAL = ".pseudo-labels.journal"


def entry(run: str, payload: bytes = b"label", *, file: str = "masks/a.png") -> Entry:
    return Entry(run, file, 0.5, sha256_bytes(payload), "5" * 64, {"floor": 0.5})


def written(root: Path, payload: bytes = b"label") -> Records:
    records = Records.open(root)
    records.write("lane", "a", entry(records.add_run(RUN), payload), payload)
    return records


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    written(tmp_path).save()
    found = Records.open(tmp_path)
    assert found.runs == {RUN.key: RUN}
    assert found.entries == {"lane": {"a": entry(RUN.key)}}
    assert found.state("lane", "a", tmp_path / "masks/a.png") == "ours"
    assert not (tmp_path / JOURNAL).exists()


def test_a_file_is_ours_only_as_it_was_recorded(tmp_path: Path) -> None:
    records = written(tmp_path)
    path = tmp_path / "masks/a.png"
    assert records.state("lane", "b", tmp_path / "masks/b.png") == "absent"
    path.write_bytes(b"by hand")
    assert records.state("lane", "a", path) == "changed"
    assert records.state("lane", "b", path) == "foreign"
    (tmp_path / "masks/a.npy").write_bytes(b"label")
    assert records.state("lane", "a", tmp_path / "masks/a.npy") == "foreign"


def test_labels_of_a_killed_process_are_known_as_pseudo_labels(tmp_path: Path) -> None:
    written(tmp_path)  # killed before save()
    assert not (tmp_path / RECORDS).exists()
    found = Records.open(tmp_path)
    assert found.state("lane", "a", tmp_path / "masks/a.png") == "ours"
    found.save()
    assert Records.open(tmp_path).entries == {"lane": {"a": entry(RUN.key)}}


def test_a_label_that_was_announced_and_never_written_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(path: Path, payload: bytes) -> None:
        assert entry(RUN.key).sha256 in (tmp_path / JOURNAL).read_text(), "recorded before the file is begun"
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "write_atomic", killed)
    with pytest.raises(KeyboardInterrupt):
        written(tmp_path)
    monkeypatch.undo()
    (tmp_path / "masks").mkdir(exist_ok=True)
    (tmp_path / "masks/a.png").write_bytes(b"by hand")
    assert Records.open(tmp_path).state("lane", "a", tmp_path / "masks/a.png") == "foreign"


def test_a_kill_while_a_label_is_replaced_leaves_the_old_one_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path).save()

    def killed(path: Path, payload: bytes) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "write_atomic", killed)
    with pytest.raises(KeyboardInterrupt):
        written(tmp_path, b"a newer label")
    monkeypatch.undo()
    assert Records.open(tmp_path).state("lane", "a", tmp_path / "masks/a.png") == "ours"


def test_a_torn_line_of_the_journal_is_passed_over(tmp_path: Path) -> None:
    written(tmp_path)
    with (tmp_path / JOURNAL).open("ab") as stream:
        stream.write(b'{"task": "lane", "stem": "b", "entry": {"run": "')
    assert list(Records.open(tmp_path).entries["lane"]) == ["a"]


def test_a_label_under_another_name_replaces_the_one_before(tmp_path: Path) -> None:
    records = written(tmp_path)
    records.write("lane", "a", entry(RUN.key, b"floats", file="masks/a.npy"), b"floats")
    assert [path.name for path in (tmp_path / "masks").iterdir()] == ["a.npy"]
    (tmp_path / "masks/a.npy").write_bytes(b"by hand")
    records.write("lane", "a", entry(RUN.key), b"label")
    assert (tmp_path / "masks/a.npy").read_bytes() == b"by hand"


def test_runs_without_labels_are_dropped_and_no_labels_leave_no_file(tmp_path: Path) -> None:
    records = written(tmp_path)
    records.add_run(replace(RUN, precision="int8"))
    records.save()
    assert list(Records.open(tmp_path).runs) == [RUN.key]
    records.entries["lane"].clear()
    records.save()
    assert not (tmp_path / RECORDS).exists()


def test_runs_label_alike_by_bundle_precision_and_what_decides_the_task() -> None:
    later = replace(RUN, started="2027-01-01T00:00:00+00:00", runtime="9", backend="openvino", version="0.3")
    assert RUN.same_labels(later, "lane")
    assert RUN.key != later.key
    for other in (
        replace(RUN, digest="e" * 64),
        replace(RUN, precision="int8"),
        replace(RUN, tasks={"lane": {"confidence": 0.8}}),
        replace(RUN, tasks={}),
    ):
        assert not RUN.same_labels(other, "lane")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": "another"}, "should be of the format"),
        ({"runs": {}}, f"names a run '{RUN.key}' that it does not describe"),
        ({"files": {"lane": {"a": {"run": 3}}}}, "lacks what it should say"),
        ({"runs": []}, "lacks what it should say"),
        ({"files": {"lane": {"a": asdict(entry("")) | {"run": [1]}}}}, "a list where another kind is expected"),
        ({"files": {"lane": {"a": asdict(entry(RUN.key)) | {"classes": {"floor": "half"}}}}}, "a str where another kind"),
        ({"runs": {RUN.key: asdict(RUN) | {"tasks": {"lane": 3}}}}, "an? int where another kind is expected"),
    ],
)
def test_damaged_records_are_refused_and_never_written_over(tmp_path: Path, change: dict[str, object], words: str) -> None:
    written(tmp_path).save()
    path = tmp_path / RECORDS
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(BuildError, match=words):
        Records.open(tmp_path)
    path.write_text("{")
    with pytest.raises(BuildError, match="says which label files are pseudo-labels"):
        Records.open(tmp_path)


def test_a_full_disk_is_a_build_error_and_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, payload: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_atomic", full)
    with pytest.raises(BuildError, match=r"a\.png cannot be written \(No space left"):
        written(tmp_path)


def test_two_runs_do_not_label_one_folder_at_a_time(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(BuildError, match="being labelled by another process"), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass
