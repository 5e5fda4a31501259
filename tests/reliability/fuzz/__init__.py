"""Fuzzing: what reads input from outside, given input that nobody meant. `python -m tests.reliability.fuzz --minutes 3`."""
