"""What the tests reach, and what they would notice: coverage of lines and branches, and mutants of three modules.

`python -m tests.reliability.coverage` runs the SDK's tests under coverage.py; with `--mutate` it changes one operator, number,
condition, decorator or handler at a time and asks whether a test fails. `modules.py` says which files and tests these are.
"""
