"""Signatures: a signed bundle altered in every way, none of which may verify. `python -m tests.reliability.signatures`."""
