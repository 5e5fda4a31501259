"""COCO's instances, and any data set of boxes in that format (Lin et al. 2014, arXiv:1405.0312; cocodataset.org).

A JSON file of a split has `images`, `annotations` with `bbox` [left, top, width, height] in pixels from the image's corner, and
`categories`, whose ids may have gaps.
"""
