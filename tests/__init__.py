"""Tests of edge_mtl; `tests.bundles` makes tiny real bundles for all of them."""
