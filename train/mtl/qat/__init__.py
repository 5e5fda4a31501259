"""Fine-tuning with the rounding of integers in the loop: the optimized ONNX as a trainable network, and the way back."""
