"""How what was looked at is shown: documents for programs, rows and sheets for people.

Knows no store. Next to read: ``ops/looked_at.py``, the values; ``output.py``, who prints them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from perdure.ops.cli.output import as_text
from perdure.ops.looked_at import DeadLetterSeen, InstanceShown, WaitingMessageSeen
from perdure.runtime.looking.history import HistoryEntry
from perdure.runtime.looking.views import InstanceView

__all__ = [
    "entry_row",
    "entry_sheet",
    "letter_row",
    "letter_sheet",
    "row_of",
    "shown_document",
    "shown_sheet",
    "view_sheet",
    "waiting_row",
]

INTERVENTION = "perdure.Intervention"


def row_of(one: Any) -> dict[str, Any]:
    """A value's fields by name; before them the instance as commands name it."""
    row: dict[str, Any] = {
        field.name: _document(getattr(one, field.name)) for field in dataclasses.fields(one)
    }
    if row.get("saga") and "correlation_id" in row:
        return {"instance": f"{row['saga']}/{row['correlation_id']}", **row}
    return row


def _document(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return row_of(value)
    if isinstance(value, Mapping):
        return {key: _document(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_document(one) for one in value]
    return value


def shown_document(shown: InstanceShown) -> dict[str, Any]:
    """Everything about an instance."""
    return row_of(shown)


def shown_sheet(shown: InstanceShown) -> dict[str, Any]:
    """The same for people, the most important first."""
    state = "state"
    if shown.turns_after and shown.state_nr:
        state = f"state after turn {shown.state_nr}"
    later = ""
    if shown.turns_after:
        later = f"{shown.turns_after} turns since then need the saga's code: give --app"
    elif shown.purged:
        later = "it was purged, as its saga's retention says: only its end is known"
    elif shown.state_nr is None and shown.status is not None and not shown.problem:
        later = "it needs the saga's code: give --app"
    aside = shown.quarantine
    return {
        "instance": f"{shown.saga}/{shown.correlation_id}",
        "status": shown.status or "not there",
        "problem": shown.problem,
        "quarantined": aside
        and f"{aside.reason}, since {as_text(aside.since)}, {aside.held} held: {aside.error}",
        "turns": shown.sequence_nr,
        "started": shown.started_at,
        "updated": shown.updated_at,
        state: shown.state,
        "not folded": later,
        "result": shown.result,
        "failure": shown.failure,
        "parent": shown.parent,
        "children": shown.children,
        "deadlines": {name: as_text(at) for name, at in shown.deadlines.items()},
        "waiting": f"{shown.waiting} messages" if shown.waiting else "",
        **{f"waiting {n}": _message(one) for n, one in enumerate(shown.inbox[:10], 1)},
        **{f"job {one.id}": _job(one) for one in shown.jobs[:10]},
        **{f"dead letter {one.id}": _letter(one) for one in shown.dead_letters[:10]},
    }


def view_sheet(view: InstanceView) -> dict[str, Any]:
    """An instance as it was."""
    return {
        "instance": f"{view.saga}/{view.correlation_id}",
        "status": str(view.status),
        "turns": view.sequence_nr,
        "updated": view.updated_at,
        "state": _no_state(view) if view.state is None else view.state,
        "result": view.result,
        "failure": view.failure,
        "deadlines": {name: as_text(at) for name, at in view.deadlines.items()},
    }


def _no_state(view: InstanceView) -> str:
    return "it was purged" if view.purged else "it needs the saga's code: give --app"


def entry_row(entry: HistoryEntry) -> dict[str, Any]:
    """A turn in a line."""
    return {
        "sequence_nr": entry.sequence_nr,
        "at": entry.at,
        "type": entry.type,
        "outcome": str(entry.outcome),
        "what": "; ".join(_what(entry)),
    }


def _what(entry: HistoryEntry) -> list[str]:
    said = []
    if entry.type == INTERVENTION and isinstance(entry.message, Mapping):
        told = entry.message
        said.append(f"{told.get('by')} ({told.get('why')}): {told.get('text')}")
    if entry.refused:
        said.append("refused")
    said += [f"{one.type} to {one.queue or 'sagas'}" for one in entry.sent]
    said += [f"deadline {name} at {as_text(at)}" for name, at in entry.deadlines_set.items()]
    said += [f"deadline {name} cleared" for name in entry.deadlines_cleared]
    if entry.status is not None:
        said.append(f"{entry.status}")
    return said


def entry_sheet(entry: HistoryEntry) -> dict[str, Any]:
    """All of one turn."""
    return {
        "turn": entry.sequence_nr,
        "at": entry.at,
        "message": entry.type,
        "message id": entry.message_id,
        "outcome": f"{entry.outcome}{', refused' if entry.refused else ''}",
        "content": entry.message,
        "events": entry.events[1:],
        **{f"sent {one.id}": {"to": one.queue, one.type: one.content} for one in entry.sent},
        "deadlines set": {name: as_text(at) for name, at in entry.deadlines_set.items()},
        "deadlines cleared": entry.deadlines_cleared,
        "status": None if entry.status is None else str(entry.status),
        "reply": entry.reply,
        "correlation id": entry.correlation_id,
        "caused by": entry.causation_id,
    }


def letter_row(letter: DeadLetterSeen) -> dict[str, Any]:
    """A dead letter in a line."""
    return {**row_of(letter), "last_line": _last_line(letter.error)}


def letter_sheet(letter: DeadLetterSeen) -> dict[str, Any]:
    """All of a dead letter."""
    return {
        "letter": letter.id,
        "instance": f"{letter.saga}/{letter.correlation_id}" if letter.saga else "",
        "message": letter.type,
        "message id": letter.message_id,
        "queue": letter.queue,
        "reason": letter.reason,
        "attempts": letter.attempts,
        "at": letter.at,
        "told": "its saga knows that it has failed" if letter.is_told else "",
        "content": letter.content,
        "error": letter.error.rstrip(),
    }


def waiting_row(message: WaitingMessageSeen) -> dict[str, Any]:
    """A message that waits, in a line."""
    return {**row_of(message), "error": _last_line(message.error)}


def _message(message: WaitingMessageSeen) -> str:
    due = f", next at {as_text(message.due_at)}" if message.due_at else ""
    return f"{message.type} {message.reason}{due} {_last_line(message.error)}".rstrip()


def _job(job: Any) -> str:
    due = f", next at {as_text(job.due_at)}" if job.due_at else ""
    attempts = f", {job.attempts} attempts failed{due}: {job.error}" if job.attempts else due
    return f"{job.type} in {job.queue or 'the mail between sagas'}{attempts}"


def _letter(letter: DeadLetterSeen) -> str:
    return f"{letter.type}, {letter.reason}: {_last_line(letter.error)}"


def _last_line(error: str) -> str:
    lines = error.strip().splitlines()
    return lines[-1].strip() if lines else ""
