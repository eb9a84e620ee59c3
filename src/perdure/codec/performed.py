"""What a worker's own transaction records of its job: the result, and what it handed out.

    pack_performed(("shop.paid", 1, body), [(1, ("shop.sms", 1, b"…"), None, False)])

Knows no store and no job. Next to read: ``runtime/jobs/own_work.py``, which writes and reads it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgpack

from perdure.codec.wire import MISSHAPEN, misshapen, unpack_row
from perdure.core.commit import OutboxKind
from perdure.core.outcome import Stored
from perdure.errors import DecodeError

__all__ = ["HandedOut", "Performed", "pack_performed", "unpack_performed"]

FORMAT = 1


class HandedOut(NamedTuple):
    """An event emitted, or a command sent, by a worker; see ``Output``."""

    kind: OutboxKind
    content: Stored
    queue: str | None
    anyway: bool


class Performed(NamedTuple):
    """What a worker returned (None: nothing), and what it handed out, in order; encoded."""

    result: Stored | None
    handed_out: Sequence[HandedOut]


def pack_performed(performed: Performed) -> bytes:
    """The bytes of a record."""
    handed_out = [(one.kind.value, *one[1:]) for one in performed.handed_out]
    packed: bytes = msgpack.packb((FORMAT, performed.result, handed_out), use_bin_type=True)
    return packed


def unpack_performed(body: bytes) -> Performed:
    """What a record says. Raises ``DecodeError``."""
    fields = unpack_row(body)
    if not isinstance(fields, list) or len(fields) != 3 or fields[0] != FORMAT:
        raise DecodeError("what a worker has recorded is of an unknown format")
    try:
        return Performed(
            None if fields[1] is None else _stored(fields[1]),
            [
                HandedOut(OutboxKind(kind), _stored(content), queue, anyway)
                for kind, content, queue, anyway in fields[2]
            ],
        )
    except MISSHAPEN as error:
        raise misshapen("what a worker has recorded", error) from error


def _stored(fields: Sequence[object]) -> Stored:
    name, version, body = fields
    if not (isinstance(name, str) and isinstance(version, int) and isinstance(body, bytes)):
        raise DecodeError("a recorded message without a content")
    return name, version, body
