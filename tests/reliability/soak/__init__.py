"""The gates of long runs: memory, descriptors, threads and shared memory over many frames and many engines.

python -m tests.reliability.soak --frames 1000000 --bundle tiny --state out/soak-tiny --out out/soak-frames.json
python -m tests.reliability.soak --cycles 1000 --out out/soak-cycles.json

`resources.py` measures this process and judges the samples, `frames.py` and `cycles.py` are the work, `leaks.py` are the
positive controls, `state.py` keeps what was done for a run that is resumed. The node's run is `node.py`.
"""
