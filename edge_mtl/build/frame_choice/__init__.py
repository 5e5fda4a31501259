"""Which frames to calibrate with: sources, looks, a spread of them, some held out."""
