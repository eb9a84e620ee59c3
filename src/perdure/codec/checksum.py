"""The checksum that every stored row carries, over its key columns and its body.

SQLite returns flipped bits without an error; a checksum over the body alone would not notice two
rows that changed places. This module knows bytes and column values, never tables or sagas.
Next to read: ``store/rows.py``, which says what each table's key is.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from zlib import crc32

import msgpack

__all__ = ["checksum", "sealer"]


class _Packers(threading.local):
    """One packer per thread: making one costs as much as using it, sharing one is not promised."""

    def __init__(self) -> None:
        self.pack = msgpack.Packer().pack


_packers = _Packers()


def checksum(body: bytes, *key: str | int) -> int:
    """CRC-32 over the key columns, in order, and the body.

    >>> checksum(b"paid", "Order/o-1", 7)
    255462771
    >>> checksum(b"paid", "Order/o-17") == checksum(b"paid", "Order/o-1", 7)
    False

    The key is rendered as a msgpack array: every value carries its type and length, so no two
    keys look alike, and the rendering is the same in every Python version. Values are str or int
    of at most 64 bits. Raises TypeError, ValueError or OverflowError for what cannot be rendered.
    """
    return crc32(body, crc32(_packers.pack(key)))


def sealer() -> Callable[[bytes, tuple[str | int, ...]], int]:
    """``checksum(body, *key)`` as a function of (body, key), for many rows on one thread."""
    pack, crc = _packers.pack, crc32

    def seal(body: bytes, key: tuple[str | int, ...]) -> int:
        return crc(body, crc(pack(key)))

    return seal
