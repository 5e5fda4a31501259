"""ONNX files as data: the operator allowlist, reading without a library, look-up, batches."""
