"""Building engines on the device: calibrate, quantize, test, time, store. Importing it loads no runtime and no onnx."""
