"""System calls that fail: every write step of every command by injection, and real file systems that are full or read-only.

python -m tests.reliability.system_errors                      every command, every step
python -m tests.reliability.system_errors --steps 3 predict-image train

`forked.py` runs a command in a forked process, with strace attached where steps are counted or made to fail; `steps.py` knows
the system calls that write and their errors; `disks.py` makes real disks. What may be found afterwards is in `trials.py`.
"""
