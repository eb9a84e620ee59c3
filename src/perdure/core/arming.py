"""What a turn does about deadlines: setting and cancelling.

The carrying out of some effects, apart from ``draft.py`` for their length. Knows no clock: the
turn's time is in its metadata. Next to read: ``deadlines.py``, which holds them in due order.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from perdure.core.outcome import TIMEOUT
from perdure.core.outgoing import LATEST_MS, milliseconds
from perdure.effects import CancelDeadline, SetDeadline
from perdure.errors import InvalidEffect
from perdure.messages import datetime_of, milliseconds_of

if TYPE_CHECKING:
    from perdure.core.draft import Draft

__all__ = ["cancel_deadline", "due_at_ms", "set_deadline"]

DEADLINE_NAME_MAX = 200


def set_deadline(draft: Draft, effect: SetDeadline) -> None:
    due = due_at_ms(effect, draft.definition.deadlines, draft.metadata.occurred_at_ms)
    if effect.name == TIMEOUT:
        _cancel_timeout(draft)
    draft.arm(effect.name, due)


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


def cancel_deadline(draft: Draft, effect: CancelDeadline) -> None:
    if effect.name == TIMEOUT:
        _cancel_timeout(draft)
    _cancel(draft, effect.name)


def _cancel_timeout(draft: Draft) -> None:
    """The timeout under whatever name it is armed; see ``TIMEOUT``."""
    for name in [name for name in draft.deadlines if name.startswith(f"{TIMEOUT}.")]:
        _cancel(draft, name)


def _cancel(draft: Draft, cancelled: str) -> None:
    if cancelled in draft.set:
        del draft.set[cancelled]
    if cancelled in draft.deadlines:
        draft.deadlines = {k: v for k, v in draft.deadlines.items() if k != cancelled}
