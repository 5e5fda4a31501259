"""Studies: many runs of train/train.py that differ in a few settings, and the report that compares them."""
