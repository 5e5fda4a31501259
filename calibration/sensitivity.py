"""Which blocks of a network suffer from integers: `python calibration/sensitivity.py BUNDLE --target tensorrt`.

The same as `edge-mtl sensitivity`, for a clone that is not installed.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from edge_mtl.cli import main

if __name__ == "__main__":
    sys.exit(main(["sensitivity", *sys.argv[1:]]))
