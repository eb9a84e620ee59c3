"""When a deadline that a turn sets is due, and whether it may be set at all.

Apart from ``draft.py``, which sets it, for its length. Next to read: ``draft.py``.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

from perdure.core.outcome import TIMEOUT
from perdure.core.outgoing import LATEST_MS, milliseconds
from perdure.effects import SetDeadline
from perdure.errors import InvalidEffect
from perdure.messages import datetime_of, milliseconds_of

__all__ = ["due_at_ms"]

DEADLINE_NAME_MAX = 200


def due_at_ms(effect: SetDeadline, known: Collection[str] | None, now_ms: int) -> int:
    """The moment of the effect; ``known`` are the names that somebody handles, None: any.

    Raises ``InvalidEffect``.
    """
    _check_name(effect.name, known)
    if (effect.after is None) == (effect.at is None):
        raise InvalidEffect(
            f"deadline {effect.name!r} needs exactly one of after= and at=", remedy="give one"
        )
    due = _after(effect, now_ms) if effect.after is not None else _at(effect)
    if not 0 <= due <= LATEST_MS:
        raise InvalidEffect(
            f"deadline {effect.name!r} is set beyond the calendar",
            remedy="set it between 1970 and 9999",
        )
    return due


def _check_name(name: object, known: Collection[str] | None) -> None:
    if not isinstance(name, str) or not 0 < len(name) <= DEADLINE_NAME_MAX:
        raise InvalidEffect(f"{name!r} is no name for a deadline", remedy="use a short text")
    if name == TIMEOUT:
        return
    if name.startswith("perdure."):
        raise InvalidEffect(
            f"deadline name {name!r} begins with 'perdure.'", remedy="use another name"
        )
    if known is not None and name not in known:
        raise InvalidEffect(
            f"deadline {name!r} has no handler",
            remedy=f"declare one with @on_deadline({name!r})"
            + (f", or set one of {', '.join(sorted(known))}" if known else ""),
        )


def _after(effect: SetDeadline, now_ms: int) -> int:
    after = effect.after
    if not isinstance(after, timedelta) or after < timedelta(0):
        raise InvalidEffect(
            f"deadline {effect.name!r} is set after {after!r}",
            remedy="give a timedelta, not below zero",
        )
    return now_ms + milliseconds(after)


def _at(effect: SetDeadline) -> int:
    at = effect.at
    if not isinstance(at, datetime) or at.tzinfo is None:
        what = "naive datetime " if isinstance(at, datetime) else ""
        raise InvalidEffect(
            f"deadline {effect.name!r} is set to the {what}{at}",
            remedy="use an aware datetime, with its time zone",
        )
    due = milliseconds_of(at)  # stored in whole milliseconds, rounded up
    return due + milliseconds(at - datetime_of(due))
