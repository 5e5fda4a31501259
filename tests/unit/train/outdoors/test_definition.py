"""The file of an outdoors study: what it says, and what of it is refused with the key that is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from mtl.datasets.corruptions import CORRUPTIONS
from mtl.outdoors.definition import load_outdoors
from mtl.study.toml_tables import StudyError

STUDIES = Path(__file__).parents[4] / "train" / "studies"

SMALL = """
name = "Small one"
title = "Title"
question = "Question?"
base = "base.toml"
[overrides]
data = { kind = "streets" }
[cells]
rows = ["clear"]
[[rows]]
name = "clear"
overrides = { data.conditions = ["clear"] }
[[rows]]
name = "all"
"""


def written(folder: Path, text: str) -> Path:
    (folder / "base.toml").write_text("")
    (folder / "study.toml").write_text(text)
    return folder / "study.toml"


def test_the_study_of_the_repository_trains_what_it_measures():
    found = load_outdoors(STUDIES / "outdoors.toml")
    assert {*found.cells.rows, *found.corruptions.rows, *found.focal.rows, *found.transfer.rows} == {
        row.name for row in found.study.rows
    }
    assert found.corruptions.kinds == CORRUPTIONS
    assert found.corruptions.severities == (1, 2, 3, 4, 5)
    runs = found.study.runs(Path("runs"))
    assert [run.name for run in runs] == ["clear-day-s0", "all-cells-s0"]
    settings = [run.settings for run in runs]
    assert settings[0].data.conditions == found.cells.home
    assert settings[1].data.conditions == ()
    assert settings[0].steps == settings[1].steps
    assert settings[0].data.train == settings[1].data.train


def test_what_is_left_out_has_its_default(tmp_path: Path):
    found = load_outdoors(written(tmp_path, SMALL))
    assert (found.study.name, found.study.seeds, found.streets) == ("small-one", (0,), "data/streets")
    assert (found.cells.home, found.cells.frames) == (("clear", "daytime"), 24)
    assert found.corruptions.rows == found.focal.rows == found.transfer.rows == ()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('rows = ["clear"]', 'rows = ["night"]', r"\[cells\]: 'night' is not a row. The rows: clear, all"),
        ('rows = ["clear"]', "", r"\[cells\]: rows should name one or more of clear, all"),
        ('rows = ["clear"]', 'rows = ["clear"]\nframes = 0', "frames should be 1 or more, found 0"),
        ('rows = ["clear"]', 'rows = ["clear"]\nhome = ["snowy", "night"]', "home should be one of clear, overcast"),
        ('rows = ["clear"]', 'rows = ["clear"]\ncount = 3', "unknown key 'count'"),
        ("[cells]", '[corruptions]\nrows = ["clear"]\nkinds = ["snow"]\n[cells]', "kinds are gaussian noise, .*found 'snow'"),
        ("[cells]", "[corruptions]\nseverities = [0, 1]\n[cells]", "severities are 1 to 5; found 0, 1"),
        ("[cells]", "[focal]\nfactors = [0.5, 0]\n[cells]", "factors should be above 0; found 0.5, 0"),
        ("[cells]", "[transfer]\nbundles = [1]\n[cells]", "bundles should be folders"),
        ('name = "all"', 'name = "clear"', "each with a name of its own; found clear, clear"),
        ('title = "Title"', "", "title is missing"),
        ("[overrides]", "[extra]\nkey = 1\n[overrides]", "unknown key 'extra'"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, old: str, new: str, message: str):
    assert old in SMALL
    with pytest.raises(StudyError, match=message):
        load_outdoors(written(tmp_path, SMALL.replace(old, new, 1)))
