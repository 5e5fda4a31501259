"""A folder of one's own as a data set: images, and for each task files beside them, described by `dataset.toml`.

`docs/guides/own-data.md` has the layout. Any label may be missing for any frame.
"""
