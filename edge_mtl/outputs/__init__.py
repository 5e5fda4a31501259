"""Where predictions go: image files, arrays, videos, annotated bags, and the viewer of rerun.io."""
