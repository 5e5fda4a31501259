"""The gate of races: builders, readers, swaps, sweeps and reloads at once, in many random schedules.

python -m tests.reliability.races --schedules 500 --seed 1 --out out/races.json

A schedule is a scenario of `scenarios.py` with a seed: its processes are forked from one that holds no engine
(`processes.py`), and sleep for random moments before the calls of the operating system that readers and writers meet at
(`jitter.py`). What must hold afterwards is asked of the files themselves (`stage.py`). Scenarios with locks or atomic steps
taken away are the positive controls.
"""
