import subprocess
import sys
from pathlib import Path

import pytest

from edge_mtl.backends import available

CODE = """
import gc, signal
from edge_mtl.backends import open_backend
from tests.bundles import host_model
first, second = (open_backend("openvino", host_model(seed=seed), threads=1) for seed in (0, 1))
for backend in (first, second):
    backend.close()
del backend, first, second
gc.collect()
seen = []
signal.signal(signal.SIGUSR1, lambda *_: seen.append(1))
for _ in range(50):
    signal.raise_signal(signal.SIGUSR1)
    junk = [bytes(1 << 14) for _ in range(64)]
print(len(seen))
"""


@pytest.mark.skipif(not available()["openvino"].usable, reason="needs openvino")
def test_python_handles_signals_after_openvino_graphs_came_and_went():
    root = Path(__file__).parents[4]
    done = subprocess.run([sys.executable, "-c", CODE], cwd=root, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "50")
