"""How a job is kept beside its command's bytes: what travels with it, and its dead letter.

    pack_context("cart-7", "m-1", {"tenant": "a"})        # OutboxRow.context
    unpack_context(row.context).correlation_id            # "cart-7"

Knows rows, no store. Next to read: ``runtime/jobs/dispatcher.py``, which hands jobs out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import msgpack

from perdure.codec.wire import unpack_row
from perdure.core.commit import OutboxKind, OutboxRow
from perdure.errors import DecodeError

__all__ = ["Context", "context_packer", "pack_context", "pack_job", "unpack_context", "unpack_job"]

FORMAT = 1


class Context(NamedTuple):
    """What a command or event knows of the message that led to it."""

    correlation_id: str | None = None
    causation_id: str | None = None
    headers: Mapping[str, str] | None = None


def context_packer() -> Callable[[str | None, str | None, Mapping[str, str] | None], bytes]:
    """``pack_context`` for a single thread: making a packer costs more than packing a context."""
    pack = msgpack.Packer(use_bin_type=True).pack

    def pack_one(
        correlation_id: str | None, causation_id: str | None, headers: Mapping[str, str] | None
    ) -> bytes:
        packed: bytes = pack((correlation_id, causation_id, dict(headers) if headers else None))
        return packed

    return pack_one


def pack_context(
    correlation_id: str | None, causation_id: str | None, headers: Mapping[str, str] | None
) -> bytes:
    """The bytes of a context; any thread may ask."""
    return context_packer()(correlation_id, causation_id, headers)


def unpack_context(packed: bytes) -> Context:
    """The context of a row. Raises ``DecodeError``."""
    if not packed:
        return Context()
    fields = unpack_row(packed)
    if not isinstance(fields, list) or len(fields) != 3 or not isinstance(fields[2], dict | None):
        raise DecodeError("the context of a job is of an unknown format")
    return Context(fields[0], fields[1], fields[2] or None)


def pack_job(row: OutboxRow) -> bytes:
    """The body of a command's dead letter: everything that is needed to queue it again."""
    packed: bytes = msgpack.packb(
        (
            FORMAT,
            row.sequence_nr,
            row.index,
            row.kind.value,
            row.version,
            row.body,
            row.created_at_ms,
            row.given_id,
            row.context,
            row.leads,
            row.after,
        )
    )
    return packed


def unpack_job(instance: str, queue: str, type_name: str, position: int, body: bytes) -> OutboxRow:
    """The job of a command's dead letter, as new: no attempts yet. Raises ``DecodeError``."""
    fields = unpack_row(body)
    if (
        not isinstance(fields, list)
        or len(fields) != 11
        or fields[0] != FORMAT
        or fields[3] not in (1, 2)
    ):
        raise DecodeError("the dead letter of a command is of an unknown format")
    (
        _,
        sequence_nr,
        index,
        kind,
        version,
        content,
        created_at_ms,
        given_id,
        context,
        leads,
        after,
    ) = fields
    return OutboxRow(
        instance,
        sequence_nr,
        index,
        OutboxKind(kind),
        queue,
        type_name,
        version,
        content,
        created_at_ms,
        position,
        given_id,
        context,
        leads=leads,
        after=after,
    )
