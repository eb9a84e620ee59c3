"""How a turn, a snapshot and a waiting message are written: the bytes of their rows.

Compact msgpack arrays with a format number first; user values inside stay opaque bytes, so that a
message nobody can decode any more can still be kept, listed and moved. Knows no store.
Next to read: ``store/protocol.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgpack

from perdure.codec.bodies import Outgoing, SnapshotBody, TurnBody, WaitingMessage
from perdure.codec.codec import Codec
from perdure.codec.wire import MISSHAPEN, misshapen, unpack_row
from perdure.core.commit import OutboxKind, Status
from perdure.core.correlation import split_key
from perdure.core.family import ChildEnded, Family, ToInstance
from perdure.core.instance import Armed, Instance, ProcessedMessages, next_due
from perdure.core.intervention import Intervention
from perdure.core.outcome import Outcome, Stored, Turn
from perdure.core.replay import JournalEntry
from perdure.core.saga import Definition
from perdure.errors import DecodeError
from perdure.messages import Message, Metadata, type_info_of

__all__ = ["JournalCodec"]

FORMAT = 1

_OUTCOMES = {
    Outcome.APPLIED: 1,
    Outcome.UNHANDLED: 2,
    Outcome.FINISHED: 3,
    Outcome.EXISTS: 4,
    Outcome.FAILED: 5,
}
_CHILD_ENDED, _TO_INSTANCE, _INTERVENTION = (
    info.name
    for cls in (ChildEnded, ToInstance, Intervention)
    if (info := type_info_of(cls)) is not None
)
_OUTCOME_OF = {number: outcome for outcome, number in _OUTCOMES.items()}


class JournalCodec:
    """Bodies of rows, over a ``Codec`` for the users' values in them."""

    def __init__(self, codec: Codec) -> None:
        self.codec = codec
        self._pack: Callable[[Any], bytes] = msgpack.Packer(use_bin_type=True).pack

    def encode_turn(self, turn: Turn) -> bytes:
        """The body of the turn's journal row."""
        message = turn.message
        status_changed = turn.status_changed
        return self._pack(
            (
                FORMAT,
                _OUTCOMES[turn.outcome],
                turn.refused,
                turn.at_ms,
                (message.type, message.version, message.body),
                message.sent_at_ms,
                message.correlation_id,
                message.causation_id,
                message.headers,
                turn.events,
                [
                    (row.kind.value, row.target, (row.type, row.version, row.body))
                    for row in turn.outgoing
                ]
                if turn.outgoing
                else turn.outgoing,
                {name: armed.due_at_ms for name, armed in turn.deadlines_set.items()}
                if turn.deadlines_set
                else turn.deadlines_set,
                turn.deadlines_cleared,
                turn.after.status.value if status_changed else None,
                turn.after.detail if status_changed else None,
                turn.reply,
            )
        )

    def read_turn(self, body: bytes) -> TurnBody:
        """The fields of a turn's body. Raises ``DecodeError`` if it is of another format."""
        fields = unpack_row(body)
        if (
            not isinstance(fields, list)
            or len(fields) != len(TurnBody._fields)
            or fields[0] != FORMAT
            or type(fields[1]) is not int
            or fields[1] not in _OUTCOME_OF
        ):
            raise DecodeError(
                f"a journal entry of an unknown format ({_format_of(fields)})",
                remedy="run the version of perdure that wrote it",
            )
        return TurnBody(*fields)

    def decode_entry(
        self,
        definition: Definition,
        instance: Instance,
        sequence_nr: int,
        message_id: str,
        body: bytes,
    ) -> JournalEntry:
        """A journal row as ``replay`` folds it; decodes only what ``apply`` will look at."""
        turn = self.read_turn(body)
        try:
            outcome = _OUTCOME_OF[turn.outcome]
            metadata = Metadata(
                message_id,
                turn.sent_at_ms,
                turn.correlation_id,
                turn.causation_id,
                turn.headers,
                turn.at_ms,
                instance.correlation_id,
                sequence_nr,
            )
            stored = [turn.message, *turn.events] if outcome is Outcome.APPLIED else []
            return JournalEntry(
                sequence_nr,
                metadata,
                outcome,
                [self.codec.decode(*one) for one in stored if self._is_folded(definition, one[0])],
                turn.deadlines_set,
                turn.deadlines_cleared,
                None if turn.status is None else Status(turn.status),
                turn.detail,
                self._child_ended(turn) if outcome is Outcome.APPLIED else None,
                self._children_started(turn) if turn.outgoing else {},
            )
        except MISSHAPEN as error:
            raise misshapen("a journal entry", error) from error

    def _child_ended(self, turn: TurnBody) -> str | None:
        if turn.message[0] != _CHILD_ENDED:
            return None
        name: str = self.codec.decode(*turn.message).name
        return name

    def _children_started(self, turn: TurnBody) -> dict[str, str]:
        directed = [stored for _, _, stored in turn.outgoing if stored[0] == _TO_INSTANCE]
        found = [self.codec.decode(*stored) for stored in directed]
        return {one.starts: one.key for one in found if one.starts}

    def _is_folded(self, definition: Definition, type_name: str) -> bool:
        if definition.folds is None:
            return type_name != _INTERVENTION  # what follows from one is recorded beside it
        info = self.codec.registry.named(type_name)
        return info is None or info.cls in definition.folds

    def outgoing_of(self, turn: TurnBody) -> list[Outgoing]:
        """The commands and events a stored turn sent."""
        return [
            Outgoing(OutboxKind(kind), target, (stored[0], stored[1], stored[2]))
            for kind, target, stored in turn.outgoing
        ]

    def outcome_of(self, turn: TurnBody) -> Outcome:
        """How a stored turn ended."""
        return _OUTCOME_OF[turn.outcome]

    def encode_snapshot(self, instance: Instance, processed: ProcessedMessages) -> bytes:
        """The body of a snapshot: the state, the armed deadlines, the known message ids."""
        family, state = instance.family, instance.state
        return self._pack(
            (
                FORMAT,
                None if state is None else tuple(self.codec.encode(state)),
                instance.status.value,
                instance.detail,
                instance.started_at_ms,
                instance.updated_at_ms,
                [(n, a.due_at_ms, a.sequence_nr) for n, a in instance.deadlines.items()],
                processed.items(instance.sequence_nr),
                None if family is None else (family.parent, family.called, family.children),
            )
        )

    def encode_tombstone(
        self, status: str, started_at_ms: int, ended_at_ms: int, known: list[tuple[str, int]]
    ) -> bytes:
        """What is kept of an instance that is purged, in place of a snapshot.

        ``known`` are the ids of its messages, with their turns, oldest first.
        """
        times = started_at_ms, ended_at_ms
        return self._pack((FORMAT, None, status, None, *times, [], known, None))

    def decode_snapshot(
        self, key: str, sequence_nr: int, body: bytes, processed: ProcessedMessages
    ) -> Instance:
        """The instance of a snapshot; its known message ids are added to ``processed``.

        Raises ``DecodeError``; ``UnknownVersion`` also for a state with other fields than this code
        has: what code of another release left out of it, or this one does not know, the journal
        still tells.
        """
        read = self.read_snapshot(body)
        try:
            return self._instance(key, sequence_nr, read, processed)
        except MISSHAPEN as error:
            raise misshapen("a snapshot", error) from error

    def _instance(
        self, key: str, sequence_nr: int, read: SnapshotBody, processed: ProcessedMessages
    ) -> Instance:
        deadlines = {name: Armed(due_at_ms, number) for name, due_at_ms, number in read.armed}
        decoded = None if read.state is None else self.codec.decode_exactly(*read.state)
        for message_id, number in read.known:
            processed.add(message_id, number)
        return Instance(
            key,
            split_key(key)[1],
            decoded,
            sequence_nr,
            Status(read.status),
            deadlines,
            next_due(deadlines),
            read.started_at_ms,
            read.updated_at_ms,
            read.detail,
            None if read.family is None else Family(*read.family),
        )

    def read_snapshot(self, body: bytes) -> SnapshotBody:
        """The fields of a snapshot's body. Raises ``DecodeError`` if it is of another format."""
        fields = unpack_row(body)
        is_known = isinstance(fields, list) and len(fields) == len(SnapshotBody._fields)
        if not is_known or fields[0] != FORMAT:
            raise DecodeError(f"a snapshot of an unknown format ({_format_of(fields)})")
        return SnapshotBody(*fields)

    def encode_waiting(self, message: Message, kind: int, strict: bool) -> bytes:
        """The body of an inbox row or of a message's dead letter."""
        return self._pack(
            (
                FORMAT,
                kind,
                strict,
                (message.type, message.version, message.body),
                message.sent_at_ms,
                message.correlation_id,
                message.causation_id,
                message.headers,
            )
        )

    def type_of_waiting(self, body: bytes) -> str:
        """The type name of the message of an inbox row, also if nobody can decode it; else ""."""
        try:
            return _stored_in(_waiting_fields(body))[0]
        except DecodeError:
            return ""

    def stored_in(self, body: bytes) -> Stored:
        """The encoded message of an inbox row or dead letter. Raises ``DecodeError``."""
        return _stored_in(_waiting_fields(body))

    def headers_of(self, body: bytes) -> dict[str, str]:
        """The headers of an inbox row's or dead letter's message. Raises ``DecodeError``."""
        headers: dict[str, str] | None = _waiting_fields(body)[7]
        return headers or {}

    def decode_waiting(self, message_id: str, body: bytes) -> WaitingMessage:
        """The message of an inbox row or dead letter. Raises ``DecodeError``."""
        fields = _waiting_fields(body)
        _, kind, strict, _, sent_at_ms, correlation_id, causation_id, headers = fields
        type_name, version, content = _stored_in(fields)
        message = Message(
            self.codec.decode(type_name, version, content),
            type_name,
            version,
            content,
            message_id,
            sent_at_ms,
            correlation_id,
            causation_id,
            headers,
        )
        return WaitingMessage(message, kind, strict)


def _waiting_fields(body: bytes) -> list[Any]:
    fields = unpack_row(body)
    if not isinstance(fields, list) or len(fields) != 8 or fields[0] != FORMAT:
        raise DecodeError(f"a waiting message of an unknown format ({_format_of(fields)})")
    if not isinstance(fields[1], int) or not isinstance(fields[7], dict | None):
        raise DecodeError("a waiting message without a verdict, or with headers that are none")
    return fields


def _stored_in(fields: list[Any]) -> Stored:
    stored = fields[3]
    if not isinstance(stored, list) or [type(part) for part in stored] != [str, int, bytes]:
        raise DecodeError("a waiting message without a content")
    return stored[0], stored[1], stored[2]


def _format_of(fields: Any) -> str:
    if isinstance(fields, list) and fields and isinstance(fields[0], int):
        return f"format {fields[0]}"
    return "no format"
