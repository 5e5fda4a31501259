"""Engines on disk and what guards them: keys, sidecars, locks, private files, revisions."""
