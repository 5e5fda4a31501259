"""One module per family of readers; each has `TARGETS`, a tuple of `Target`."""
