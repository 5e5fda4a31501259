"""INT8 from measured ranges: recipes, statistics, ranges, cross-layer equalization, Q/DQ insertion."""
