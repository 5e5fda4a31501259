"""Data sources for training, one module or package each."""
