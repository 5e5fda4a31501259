"""ImageNet's classification data (Russakovsky et al. 2015, "ImageNet Large Scale Visual Recognition Challenge"), and any folder
of class folders."""
