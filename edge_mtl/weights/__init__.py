"""How a bundle stores its weights once: in one file from which both ONNX graphs are assembled, bit for bit."""
