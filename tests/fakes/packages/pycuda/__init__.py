"""Stands in for pycuda where that is not installed: the names and rules of its driver module, over `libcuda.so.1`."""

VERSION_TEXT = "that is not there"
