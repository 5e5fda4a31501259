"""One frame before and after the network: validation, letterbox, camera, upsampling, geometry, colour and drawing."""

OUTPUT_STRIDE = 4
"""Network pixels per cell of a map that leaves post-processing to the host; letterboxed content is a whole number of cells."""

VOID = 255
"""Label of a pixel without a class: unlabelled ground truth, or padding."""
