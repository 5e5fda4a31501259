"""A safetensors file packed without loss: the exponents of FP32 weights are deflated, the mantissas lie as they are.

The data are cut into 4-byte words and stored as four planes, the first bytes of all words, then the second ones and so on.
Three planes of trained FP32 weights are noise that no method shortens; the fourth, sign and exponent, shrinks to a third.
As only that one is deflated, unpacking never makes more than a third more bytes than the file holds.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np

from edge_mtl.errors import BundleError
from edge_mtl.weights.safetensors import header_end

__all__ = ["pack", "unpack"]

_MAGIC = b"EMTLPLN1"
_HEAD = struct.Struct("<8sQQQ")
"""Magic, bytes of the safetensors header, words, bytes of the deflated plane. They follow, then what is not a whole word."""

_WORD = 4


def pack(payload: bytes) -> bytes:
    """`payload`, a safetensors file (or any other bytes), in planes."""
    prefix = header_end(payload)
    words = (len(payload) - prefix) // _WORD
    planes = np.frombuffer(payload, np.uint8, words * _WORD, prefix).reshape(words, _WORD)
    deflater = zlib.compressobj(strategy=zlib.Z_HUFFMAN_ONLY)  # nothing repeats: smaller than with matches, and 20 times faster
    deflated = deflater.compress(planes[:, 3].tobytes()) + deflater.flush()
    raw = [planes[:, place].tobytes() for place in range(3)]
    head = _HEAD.pack(_MAGIC, prefix, words, len(deflated))
    return b"".join([head, payload[:prefix], *raw, deflated, payload[prefix + words * _WORD :]])


def unpack(packed: bytes, *, name: str) -> memoryview:
    """The bytes that were packed.

    Args:
        name: of the file, for messages.
    Raises:
        BundleError: not a file of `pack`, cut short, or its deflated plane is damaged.
    """
    try:
        magic, prefix, words, deflated = _HEAD.unpack_from(packed)
        rest = len(packed) - _HEAD.size - prefix - 3 * words - deflated
        if magic != _MAGIC or not 0 <= rest < _WORD:
            raise ValueError(f"{len(packed)} bytes do not fit its own header")
        start = _HEAD.size + prefix
        inflater = zlib.decompressobj()
        last = start + 3 * words
        exponents = inflater.decompress(memoryview(packed)[last : last + deflated], words + 1)
        if len(exponents) != words or not inflater.eof or inflater.unused_data:
            raise ValueError("the plane of exponents has another length")
    except (ValueError, struct.error, zlib.error, OverflowError) as exc:
        raise BundleError(
            f"{name} is not packed weights that this version reads ({exc}). "
            "Restore it from where the bundle came from, or export the bundle again."
        ) from exc
    size = prefix + words * _WORD
    payload = np.empty(size + rest, np.uint8)
    payload[:prefix] = np.frombuffer(packed, np.uint8, prefix, _HEAD.size)
    planes = payload[prefix:size].reshape(words, _WORD)
    for place in range(3):
        planes[:, place] = np.frombuffer(packed, np.uint8, words, start + place * words)
    planes[:, 3] = np.frombuffer(exponents, np.uint8)
    if rest:
        payload[size:] = np.frombuffer(packed, np.uint8, rest, len(packed) - rest)
    return payload.data
