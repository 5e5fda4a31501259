"""Threats: each defence of SECURITY.md is taken away, and its tests must see it. `python -m tests.reliability.threats`."""
