"""What INT8 costs block by block, on evaluation frames."""
