"""INT8 from measured ranges: ranges, placement, emission for a runtime, repairs, search."""
