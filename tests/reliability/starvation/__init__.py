"""Commands with less than they are used to: memory, descriptors, processors, a home, streams, a clock, file systems.

python -m tests.reliability.starvation                    every condition
python -m tests.reliability.starvation streams clock      some kinds of condition

`conditions.py` lists the conditions, `trial.py` runs a command in one and judges it; what may be found afterwards is in
`tests/reliability/trials.py`. Conditions that need root, control groups or libfaketime are named in the record where these are
missing.
"""
