"""Bytes and plain objects: the one place that touches msgpack.

``pack`` knows None, bool, int, float, str, bytes, list, dict and ``ext``; everything else was
turned into these before. ``unpack`` refuses what perdure never writes. This module knows no
annotations and no classes. Next to read: ``scalars.py``, what the ext codes mean.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import msgpack

from perdure.codec.limits import Limits, check_limits
from perdure.errors import DecodeError

__all__ = ["MISSHAPEN", "ext", "misshapen", "pack", "unpack", "unpack_row"]

ext: Callable[[tuple[int, bytes]], object] = partial(tuple.__new__, msgpack.ExtType)
"""An ext element of (code, data); without msgpack's own slow checks, as both are ours."""

_IDLE: list[Any] = []
_KEPT_BYTES_MAX = 65_536
_unpackb: Callable[..., Any] = msgpack.unpackb


def pack(value: object) -> bytes:
    """The msgpack bytes of plain objects of exact types.

        pack({"order_id": "o-1"})

    Raises what msgpack raises: ``TypeError``, ``OverflowError``, ``UnicodeEncodeError``,
    ``ValueError``.
    """
    # A packer is taken out of the pool while in use: calls from other threads, or from a finalizer
    # in the middle of this one, get their own. After an error it is dropped, half filled as it is.
    try:
        packer = _IDLE.pop()
    except IndexError:
        packer = msgpack.Packer(strict_types=True)
    data: bytes = packer.pack(value)
    if len(data) <= _KEPT_BYTES_MAX:
        _IDLE.append(packer)
    return data


def unpack(data: bytes, read_ext: Callable[[int, bytes], object]) -> Any:
    """The plain objects in one msgpack element; ``read_ext`` turns (code, data) into a value.

    Of two equal keys in a map the last one counts. Raises whatever msgpack or ``read_ext`` raises.
    """
    value = _unpackb(data, raw=False, strict_map_key=False, ext_hook=read_ext)
    # msgpack builds its Timestamp for ext code -1 without asking `read_ext`.
    if _MAYBE_TIMESTAMP.search(data) and _holds_timestamp(value):
        raise ValueError("a msgpack timestamp, which perdure never writes")
    return value


_MAYBE_TIMESTAMP = re.compile(rb"\xff(?<=[\x04\x08\x0c\xd6\xd7]\xff)")
"""What begins an ext element of code -1: two lengths are fixed, three told. Looks for the 0xff, and
at the byte before it then, which is several times faster than the other way round."""


def _holds_timestamp(value: object) -> bool:
    left = [value]
    while left:
        value = left.pop()
        if isinstance(value, msgpack.Timestamp):
            return True
        if isinstance(value, list):
            left += value
        elif isinstance(value, dict):
            left += value
            left += value.values()
    return False


def unpack_row(data: bytes) -> Any:
    """The plain objects of a row's own bytes, in which there are no ext elements.

    Raises ``DecodeError`` for everything else, and before anything large is built of bytes that
    claim or nest too much (``LimitExceeded``).
    """
    if len(data) > _ROW_BYTES_UNSCANNED:
        check_limits(data, _ROW_LIMITS)
    try:
        value = _unpackb(data, raw=False, strict_map_key=False, ext_hook=_no_ext)
    except Exception as error:
        raise DecodeError(f"bytes that are no msgpack: {error}") from error
    if _MAYBE_TIMESTAMP.search(data) and _holds_timestamp(value):
        raise DecodeError("a msgpack timestamp, which perdure never writes")
    return value


_ROW_BYTES_UNSCANNED = 262_144
_ROW_LIMITS = Limits(bytes_max=2**31, elements_max=4_000_000, depth_max=16)
"""A turn may have many messages, each of which is opaque bytes here; nothing in a row is deep."""


def _no_ext(code: int, data: bytes) -> object:
    raise ValueError(f"an ext element of code {code}, which perdure does not write there")


MISSHAPEN = (TypeError, ValueError, KeyError, IndexError, AttributeError, OverflowError)
"""What is raised where a field of a row is of another kind than the one that was written."""


def misshapen(what: str, error: Exception) -> DecodeError:
    """The error for a row whose fields are not what they should be."""
    return DecodeError(f"{what} whose fields are not of their kinds: {error!r:.200}")
