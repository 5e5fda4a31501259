"""ONNX Runtime on a CUDA GPU."""
