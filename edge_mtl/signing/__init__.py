"""Signatures of bundles, in the format of minisign: keys, signatures of manifests, and bundles signed and checked."""
