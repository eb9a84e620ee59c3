"""The requests that repair: each is a method of ``runtime.repair``, with who does it and why.

    await ask("skip", saga="Trip", id="t-1", step="book_hotel", by="ann", why="booked by phone")

With ``dry_run`` nothing is done, and told is what would be; with ``expected``, only if the instance
still stands at that sequence number. Next to read: ``runtime/repair/repair.py``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

from perdure.ops.control.arguments import Arguments
from perdure.ops.control.lines import BadRequest
from perdure.ops.plain import to_plain
from perdure.runtime.repair.repair import Repair
from perdure.runtime.repair.repaired import Repaired
from perdure.runtime.runtime import Runtime

__all__ = ["REPAIRS"]

Answering = Callable[[Runtime, Arguments], Awaitable[Any]]


def _of_instance(name: str, *wanted: Callable[[Arguments], Any]) -> Answering:
    """A repair of an instance: its method, and how its own arguments are read."""

    async def answering(runtime: Runtime, given: Arguments) -> Any:
        repair, target = _repair(runtime, given), given.ref(runtime)
        own = [read(given) for read in wanted]
        options = _options(given, expected=name != "release", message_id=True)
        return repaired(await getattr(repair, name)(target, *own, **options))

    return answering


def _of_letter(name: str) -> Answering:
    async def answering(runtime: Runtime, given: Arguments) -> Any:
        repair, letter = _repair(runtime, given), given.number("letter")
        own = [given.optional_message()] if name == "redrive" else []
        options = _options(given, expected=True, message_id=False)
        return repaired(await getattr(repair, name)(letter, *own, **options))

    return answering


def _repair(runtime: Runtime, given: Arguments) -> Repair:
    return runtime.repair(by=given.text("by"), why=given.text("why"))


def _options(given: Arguments, *, expected: bool, message_id: bool) -> dict[str, Any]:
    options: dict[str, Any] = {"dry_run": given.flag("dry_run")}
    if expected:
        options["expected"] = given.optional_number("expected")
    if message_id:
        options["message_id"] = given.optional_text("message_id")
    given.end()
    return options


def _moment(given: Arguments) -> datetime:
    text = given.text("at")
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise BadRequest(f"'at' is {text[:40]!r}, not a moment such as 2026-11-20T03:00:00+00:00")
    return at


def repaired(found: Repaired) -> dict[str, Any]:
    """What was done, or would be, as plain data."""
    return {
        "action": found.action,
        "saga": found.saga,
        "correlation_id": found.correlation_id,
        "text": found.text,
        "dry_run": found.dry_run,
        "sequence_nr": found.sequence_nr,
        "status_before": None if found.status_before is None else str(found.status_before),
        "status_after": None if found.status_after is None else str(found.status_after),
        "commands": [
            {"id": one.id, "queue": one.queue, "type": one.type, "content": to_plain(one.content)}
            for one in found.commands
        ],
        "events": to_plain(list(found.events)),
        "deadlines_set": {name: at.isoformat() for name, at in found.deadlines_set.items()},
        "deadlines_cleared": list(found.deadlines_cleared),
        "jobs": list(found.jobs),
        "letters": list(found.letters),
        "duplicate": found.duplicate,
    }


def _text(name: str) -> Callable[[Arguments], str]:
    return lambda given: given.text(name)


REPAIRS: dict[str, Answering] = {
    "retry": _of_instance("retry"),
    "skip": _of_instance("skip", _text("step")),
    "mark_done": _of_instance("mark_done", _text("about"), Arguments.result),
    "repair.send": _of_instance("send", Arguments.message),
    "cancel": _of_instance("cancel"),
    "compensate": _of_instance("compensate"),
    "restart_from": _of_instance("restart_from", _text("step")),
    "set_deadline": _of_instance("set_deadline", _text("name"), _moment),
    "cancel_deadline": _of_instance("cancel_deadline", _text("name")),
    "release": _of_instance("release"),
    "redrive": _of_letter("redrive"),
    "discard": _of_letter("discard"),
}
