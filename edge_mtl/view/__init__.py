"""Predictions in the viewer of rerun.io: what comes in, how it is laid out, how it is recorded. Needs the extra "view"."""
