"""ADE20K (Zhou et al. 2017, "Scene Parsing through ADE20K Dataset"): the scene parsing challenge, and the full release.

The challenge has PNGs of 150 classes and a list of scene categories; the full release codes about 3,000 classes in `_seg.png`.
"""
