"""What an errand came to, as it travels back: a plain value, or a ``Repaired``.

Next to read: ``runtime/errands.py``.
"""

from __future__ import annotations

from typing import Any

from perdure.codec.codec import Codec
from perdure.codec.mail import VALUE_BYTES_MAX
from perdure.core.commit import OutboxKind, Status
from perdure.errors import CodecError, DecodeError
from perdure.runtime.looking.history import Sent
from perdure.runtime.repair.repaired import Repaired

__all__ = ["pack_result", "unpack_result"]


def pack_result(codec: Codec, value: Any) -> bytes:
    """The bytes of a result; of a repair that is too large to travel, without what it sends."""
    if not isinstance(value, Repaired):
        return codec.encode_value({"value": value})
    packed = codec.encode_value(_shown(codec, value, True))
    if len(packed) > VALUE_BYTES_MAX:
        packed = codec.encode_value(_shown(codec, value, False))
    return packed


def unpack_result(codec: Codec, packed: bytes) -> Any:
    """The same back. Raises ``DecodeError``."""
    fields = codec.decode_value(packed)
    if not isinstance(fields, dict) or not fields:
        raise DecodeError("the answer to an errand is of an unknown format")
    if "value" in fields:
        return fields["value"]
    try:
        return _repaired(codec, fields)
    except (KeyError, TypeError, ValueError) as error:
        raise DecodeError("the answer to a repair is of an unknown format") from error


def _shown(codec: Codec, done: Repaired, is_whole: bool) -> dict[str, Any]:
    return {
        "action": done.action,
        "saga": done.saga,
        "correlation_id": done.correlation_id,
        "text": done.text,
        "dry_run": done.dry_run,
        "sequence_nr": done.sequence_nr,
        "before": None if done.status_before is None else str(done.status_before),
        "after": None if done.status_after is None else str(done.status_after),
        "commands": [_sent(codec, one) for one in done.commands] if is_whole else [],
        "events": [_packed(codec, one) for one in done.events] if is_whole else [],
        "deadlines_set": dict(done.deadlines_set),
        "deadlines_cleared": list(done.deadlines_cleared),
        "jobs": list(done.jobs),
        "letters": list(done.letters),
        "duplicate": done.duplicate,
    }


def _sent(codec: Codec, sent: Sent) -> list[Any]:
    return [sent.id, int(sent.kind), sent.queue, sent.type, _packed(codec, sent.content)]


def _packed(codec: Codec, content: Any) -> bytes | None:
    try:
        return codec.encode_value(content)
    except CodecError:  # what nobody could decode is shown as something else
        return None


def _repaired(codec: Codec, fields: dict[str, Any]) -> Repaired:
    return Repaired(
        fields["action"],
        fields["saga"],
        fields["correlation_id"],
        fields["text"],
        fields["dry_run"],
        fields["sequence_nr"],
        None if fields["before"] is None else Status(fields["before"]),
        None if fields["after"] is None else Status(fields["after"]),
        tuple(
            Sent(id_, OutboxKind(kind), queue, type_, _unpacked(codec, content))
            for id_, kind, queue, type_, content in fields["commands"]
        ),
        tuple(_unpacked(codec, event) for event in fields["events"]),
        fields["deadlines_set"],
        tuple(fields["deadlines_cleared"]),
        tuple(fields["jobs"]),
        tuple(fields["letters"]),
        fields["duplicate"],
    )


def _unpacked(codec: Codec, packed: bytes | None) -> Any:
    return None if packed is None else codec.decode_value(packed)
