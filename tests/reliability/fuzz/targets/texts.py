"""Targets of the gate fuzz-texts: what is read from JSON and TOML."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from tests.reliability.fuzz.target import Target
from tests.reliability.fuzz.texts import mutate_json

__all__ = ["TARGETS"]

_GATE = "fuzz-texts"
_BUNDLES = ("indoor-lite0", "indoor-b0", "rooms-b0")


def _open_manifest(scratch: Path) -> Callable[[bytes], None]:
    from edge_mtl.bundle import MANIFEST, Bundle

    def read(mutant: bytes) -> None:
        (scratch / MANIFEST).write_bytes(mutant)
        bundle = Bundle.open(scratch)
        bundle.manifest.to_json()

    return read


def _manifests(scratch: Path) -> Sequence[bytes]:
    from edge_mtl.bundle import MANIFEST, bundled

    return [(bundled(name) / MANIFEST).read_bytes() for name in _BUNDLES]


TARGETS = (Target("manifest", _GATE, _open_manifest, _manifests, mutate_json),)
