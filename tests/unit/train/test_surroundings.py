"""What every script of training looks at before it begins."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from mtl.surroundings import require_surroundings

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("script", ["train.py", "export.py"])
def test_a_working_folder_that_was_deleted_is_named_before_torch_ends_the_process(script: str, tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    words = [sys.executable, ROOT / "train" / script, *(["x.safetensors"] if script == "export.py" else [])]
    done = subprocess.run(
        ["sh", "-c", f'rmdir "{tmp_path}/gone"; exec "$@"', "sh", *map(str, words)],
        cwd=tmp_path / "gone",
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr.strip()) == (
        74,
        f"{script[:-3]}: the working folder was deleted. Change to another one: cd",
    )


def test_nothing_is_said_where_all_is_there() -> None:
    require_surroundings()
