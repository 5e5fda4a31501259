"""A process that was started without standard streams has some that lead nowhere, before it opens a file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys
from edge_mtl.standard_streams import open_standard_streams
open_standard_streams()
with open(sys.argv[1], "w") as stream:
    assert stream.fileno() > 2, stream.fileno()
    stream.write("kept")
    print("printed")
    print("complained", file=sys.stderr)
    assert sys.stdin.read() == ""
"""


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_what_is_printed_never_lands_in_a_file(closed: str, tmp_path: Path) -> None:
    words = ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-c", PROGRAM, str(tmp_path / "file")]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run(words, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "file").read_text() == "kept"
    assert done.stdout == ("" if ">&-" in closed.split() else "printed\n")
