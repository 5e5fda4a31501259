"""Files nested deeper than Python's stack: each reader says so, or takes them for what it cannot use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mtl.config import load_config
from mtl.datasets.ade20k.full_release import other_numbers
from mtl.datasets.folder.camera import CameraFiles
from mtl.datasets.folder.description import read_description
from mtl.datasets.nyuv2.layout import read_description as read_nyuv2
from mtl.pseudo_labels.cameras import read_camera_info
from mtl.pseudo_labels.records import RECORDS, Records
from mtl.resume import check_same_settings
from mtl.settings import RunSettings
from mtl.study.definition import load_study
from mtl.study.records import OUTCOME, read_outcome, read_records
from mtl.study.timings import read_latencies

from edge_mtl.errors import EdgeMtlError
from edge_mtl.quantization.recipes import load_recipe

pytestmark = pytest.mark.training

DEEP = "[" * 20_000
TOML = f"a = {DEEP}"
REFUSING: dict[str, tuple[str, str, Callable[[Path], Any]]] = {
    "a configuration": ("a.toml", TOML, load_config),
    "a study": ("a.toml", TOML, load_study),
    "a recipe": ("a.toml", TOML, load_recipe),
    "a folder of one's own": ("dataset.toml", TOML, lambda path: read_description(path.parent)),
    "a frame's camera": ("a.json", DEEP, lambda path: CameraFiles(".").of(path.parent, "a", (480, 640))),
    "a copy of NYUv2": ("dataset.json", DEEP, lambda path: read_nyuv2(path.parent)),
    "pseudo-labels": (RECORDS, DEEP, lambda path: Records.open(path.parent)),
    "a camera_info": ("a.yaml", DEEP, read_camera_info),
    "a run's metrics": ("metrics.jsonl", f"{DEEP}\n{{}}\n", lambda path: read_records(path.parent)),
    "a run's settings": ("a.json", DEEP, lambda path: check_same_settings(path.read_text(), 1, RunSettings(), where="a run")),
}
PASSING: dict[str, tuple[str, Callable[[Path], Any], Any]] = {
    "how a run ended": (OUTCOME, lambda path: read_outcome(path.parent), None),
    "latencies": ("latency.json", read_latencies, None),
    "the journal of pseudo-labels": (".pseudo-labels.journal", lambda path: Records.open(path.parent).runs, {}),
}


@pytest.mark.parametrize("what", REFUSING)
def test_a_file_that_is_needed_is_refused(what: str, tmp_path: Path) -> None:
    name, text, read = REFUSING[what]
    (tmp_path / name).write_text(text)
    with pytest.raises(EdgeMtlError):
        read(tmp_path / name)


@pytest.mark.parametrize("what", PASSING)
def test_a_file_that_can_be_done_without_is_left_alone(what: str, tmp_path: Path) -> None:
    name, read, expected = PASSING[what]
    (tmp_path / name).write_text(DEEP)
    assert read(tmp_path / name) == expected


def test_a_description_of_ade20k_is_an_oddity(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(DEEP)
    assert "not a description" in other_numbers(tmp_path / "a.json")[0]
