"""Pseudo-labels: what an engine of a bundle answers on the images of a folder, where it can be trusted, as label files.

`labelling.py` is the order of a run; read it first. `trust.py` decides which pixels are kept, `label_files.py` how a task's
labels are stored, `records.py` remembers which files are pseudo-labels, `description.py` reads and writes `dataset.toml`.
"""
