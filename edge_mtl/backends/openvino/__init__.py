"""OpenVINO on the processor."""
