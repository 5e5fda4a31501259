"""The gates of reliability: long runs that look for faults nobody thought of, each with a positive control and a record.

`gates.py` lists them, `record.py` writes what a run found beside all other results, `page.py` writes the records into
docs/reliability.md. A gate is a module or a package here, started with `python -m tests.reliability.NAME`; its quick part
are tests, which `make check` runs.
"""
