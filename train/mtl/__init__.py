"""Training package: models, decoders, data, losses and the loop. Never installed with the SDK."""
