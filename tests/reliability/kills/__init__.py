"""The gate `kills`: commands that are killed, at every step that changes a file and at random moments, and what is left then.

`commands.py` has the commands, `child.py` the processes that run and die, `steps.py` finds and strikes steps with strace,
`oracle.py` reads what was left by other means than the product's own writers, `trials.py` kills, judges and starts again.
"""
