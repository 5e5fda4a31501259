"""Positive control: a command whose handler of a missing stream was taken away must be named."""

from __future__ import annotations

from edge_mtl.files import sha256_file
from tests.reliability.starvation.conditions import Condition
from tests.reliability.starvation.trial import site

__all__ = ["a_missing_stream"]

_ESCAPING = """
import sys
sys.stdout.write("depth")
"""


def a_missing_stream() -> tuple[str, str]:
    """A script that takes its standard output for granted, run without one: (fault, what the gate says of it)."""
    with site("script") as trials:
        (trials.template / "script.py").write_text(_ESCAPING)
        trials.normal.before["script.py"] = sha256_file(trials.template / "script.py")
        condition = Condition("no standard output", "streams", prefix=("sh", "-c", 'exec "$@" >&-', "sh"))
        return "a script that takes its standard output for granted", "; ".join(trials.tried(condition)[1])
