"""What data sets that others published have in common: an index that is made once, frames read when they are asked for, checks.

A reader of one layout gives a `Listing` for each split; it has its own package beside this one.
"""
