"""The SDK on 64-bit ARM, emulated, and its answers beside those of x86-64: `python -m tests.reliability.arm64 --root FOLDER`.

What it computes is looked at, not how fast: an emulator's times say nothing.
"""
