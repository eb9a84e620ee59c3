"""What lies in a row of mail, and what its sender is told: packed, and read back.

    body = pack_letter(journal, delivery…)                # MailRow.body of a message
    text = pack_replies([...])                            # the payload of a NOTIFY

A payload has less than 8,000 bytes, so a reply value that is large does not travel: the asker reads
it where it is journaled. Knows values, no row and no delivery. Next to read: ``store/mail.py``;
``cluster/router.py`` and ``cluster/intake.py``, the two ends.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import msgpack

import perdure.errors as errors
from perdure.codec.codec import Codec
from perdure.codec.outbox import pack_job, unpack_job
from perdure.codec.wire import unpack_row
from perdure.core.commit import OutboxRow
from perdure.errors import DecodeError, PerdureError, SendError

__all__ = [
    "Answer",
    "Carried",
    "Refusal",
    "Taken",
    "pack_carried",
    "pack_errand",
    "pack_job_letter",
    "pack_reply",
    "payloads",
    "unpack_carried",
    "unpack_errand",
    "unpack_job_letter",
    "unpack_replies",
]

FORMAT = 1
PAYLOAD_BYTES_MAX = 5_900
"""Before base64, which makes 7,868 characters of it; PostgreSQL takes less than 8,000."""
VALUE_BYTES_MAX = 4_000
TEXT_CHARS_MAX = 900
"""At most 3,600 bytes each in UTF-8; an error has at most one long text."""


@dataclass(frozen=True, slots=True)
class Carried:
    """A message in a row: as it waits in the inbox, too, and what its sender needs beside.

    ``asks_again``: it was delivered before, and waited. ``settles``: its sender has something to
    write that must be written once, and asks whether anything was written of it there.
    """

    waiting: bytes
    asks_again: bool = False
    settles: bool = False


@dataclass(frozen=True, slots=True)
class Taken:
    """It was taken. ``value`` is the encoded reply, None for none; ``is_large``: look it up."""

    token: int
    outcome: str
    sequence_nr: int | None = None
    duplicate: bool = False
    value: bytes | None = None
    is_large: bool = False


@dataclass(frozen=True, slots=True)
class Refusal:
    """It was not. ``is_written``: a dead letter, or a turn, tells of it there."""

    token: int
    error: PerdureError
    is_written: bool = False


Answer = Taken | Refusal


def pack_carried(carried: Carried) -> bytes:
    """The body of a row with a message."""
    flags = carried.asks_again | carried.settles << 1
    packed: bytes = msgpack.packb((FORMAT, flags, carried.waiting))
    return packed


def unpack_carried(body: bytes) -> Carried:
    """The same back. Raises ``DecodeError``."""
    fields = _fields(body, "a message", (int, int, bytes))
    return Carried(fields[2], bool(fields[1] & 1), bool(fields[1] & 2))


def pack_job_letter(row: OutboxRow, is_named: bool) -> bytes:
    """The body of a row with a job that no saga sent."""
    packed: bytes = msgpack.packb(
        (FORMAT, is_named, row.due_at_ms, row.target, row.type, pack_job(row))
    )
    return packed


def unpack_job_letter(body: bytes) -> tuple[OutboxRow, bool]:
    """The job, without a position, and whether its id is the caller's. Raises ``DecodeError``."""
    fields = _fields(body, "a job", (int, bool, int, str, str, bytes))
    row = unpack_job("", fields[3], fields[4], 0, fields[5])
    row.due_at_ms = fields[2]
    return row, fields[1]


def pack_errand(codec: Codec, name: str, arguments: Iterable[Any]) -> bytes:
    """The body of a row with an errand. Raises ``EncodeError`` for what cannot be stored."""
    packed: bytes = msgpack.packb((FORMAT, name, [codec.encode_value(one) for one in arguments]))
    return packed


def unpack_errand(codec: Codec, body: bytes) -> tuple[str, list[Any]]:
    """The name of an errand, and its arguments. Raises ``DecodeError``."""
    fields = _fields(body, "an errand", (int, str, list))
    return fields[1], [codec.decode_value(one) for one in fields[2]]


def pack_reply(answer: Answer) -> bytes:
    """One answer, small enough for a payload."""
    if isinstance(answer, Taken):
        value, is_large = answer.value, answer.is_large
        if value is not None and len(value) > VALUE_BYTES_MAX:
            value, is_large = None, True
        fields: tuple[Any, ...] = (
            answer.token, answer.outcome, answer.sequence_nr, answer.duplicate, value, is_large,
        )  # fmt: skip
    else:
        error = answer.error
        fields = (
            answer.token, _name_of(error), in_few(error.problem), error.saga,
            error.correlation_id, in_few(error.remedy or ""), answer.is_written,
        )  # fmt: skip
    packed: bytes = msgpack.packb(fields)
    if len(packed) > PAYLOAD_BYTES_MAX:  # texts of four bytes per character
        assert isinstance(answer, Refusal)
        short = type(answer.error)(in_few(answer.error.problem, 200))
        return pack_reply(Refusal(answer.token, short, answer.is_written))
    return packed


def payloads(replies: Iterable[bytes]) -> Iterator[str]:
    """Packed answers as few texts, in their order, each short enough for a NOTIFY."""
    gathered = b""
    for reply in replies:
        if gathered and len(gathered) + len(reply) > PAYLOAD_BYTES_MAX:
            yield b64encode(gathered).decode()
            gathered = b""
        gathered += reply
    if gathered:
        yield b64encode(gathered).decode()


def unpack_replies(payload: str) -> list[Answer]:
    """The answers in a payload. Raises ``DecodeError``."""
    try:
        unpacker = msgpack.Unpacker(None, raw=False, use_list=True)
        unpacker.feed(b64decode(payload, validate=True))
        return [_answer_of(fields) for fields in unpacker]
    except (ValueError, TypeError, IndexError, msgpack.UnpackException) as error:
        raise DecodeError("an answer of an unknown format") from error


def _answer_of(fields: list[Any]) -> Answer:
    if len(fields) == 6:
        return Taken(*fields)
    token, name, problem, saga, correlation_id, remedy, is_written = fields
    error = _kind_of(name)(problem, saga=saga, correlation_id=correlation_id, remedy=remedy or None)
    return Refusal(token, error, bool(is_written))


def in_few(text: str, chars: int = TEXT_CHARS_MAX) -> str:
    """The text, or how it begins."""
    return text if len(text) <= chars else f"{text[:chars]}…"


_ARE_MADE_OTHERWISE = ("PublishFailed", "RetryLater")


def _name_of(error: PerdureError) -> str:
    """The name of its class, or of the next one above that is ours."""
    for kind in type(error).__mro__:
        name = kind.__name__
        if getattr(errors, name, None) is kind and name not in _ARE_MADE_OTHERWISE:
            return name
    return SendError.__name__


def _kind_of(name: str) -> type[PerdureError]:
    """The class of this name; a newer version's error that is not known here is a ``SendError``."""
    kind = getattr(errors, name, None)
    if name in _ARE_MADE_OTHERWISE or not isinstance(kind, type):
        return SendError
    return kind if issubclass(kind, PerdureError) else SendError


def _fields(body: bytes, what: str, kinds: tuple[type, ...]) -> list[Any]:
    fields = unpack_row(body)
    if not isinstance(fields, list) or [type(field) for field in fields] != list(kinds):
        raise DecodeError(f"a row of mail that holds {what}, of an unknown format")
    if fields[0] != FORMAT:
        raise DecodeError(f"a row of mail that holds {what}, of format {fields[0]}")
    return fields
