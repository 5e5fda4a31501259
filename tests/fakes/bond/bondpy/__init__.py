"""Stands in for the package `bondpy`, which is on no package index."""
