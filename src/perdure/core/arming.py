"""What a turn does about deadlines: setting and cancelling.

The carrying out of some effects, apart from ``draft.py`` for their length. Knows no clock: the
turn's time is in its metadata. Next to read: ``deadlines.py``, which holds them in due order.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from perdure.core.outcome import TIMEOUT
from perdure.core.outgoing import LATEST_MS, milliseconds
from perdure.effects import CancelDeadline, SetDeadline
from perdure.errors import InvalidEffect
from perdure.messages import datetime_of, milliseconds_of

if TYPE_CHECKING:
    from perdure.core.draft import Draft

__all__ = ["cancel_deadline", "set_deadline"]

DEADLINE_NAME_MAX = 200


def set_deadline(draft: Draft, effect: SetDeadline) -> None:
    name = effect.name
    if not isinstance(name, str) or not 0 < len(name) <= DEADLINE_NAME_MAX:
        raise InvalidEffect(f"{name!r} is no name for a deadline", remedy="use a short text")
    if name.startswith("perdure.") and name != TIMEOUT:
        raise InvalidEffect(
            f"deadline name {name!r} begins with 'perdure.'", remedy="use another name"
        )
    if (effect.after is None) == (effect.at is None):
        raise InvalidEffect(
            f"deadline {name!r} needs exactly one of after= and at=", remedy="give one"
        )
    if effect.after is not None:
        if not isinstance(effect.after, timedelta):
            raise InvalidEffect(
                f"deadline {name!r} is set after {effect.after!r}", remedy="give a timedelta"
            )
        due = draft.metadata.occurred_at_ms + milliseconds(effect.after)
    elif effect.at is None or effect.at.tzinfo is None:
        raise InvalidEffect(
            f"deadline {name!r} is set to the naive datetime {effect.at}",
            remedy="use an aware one, with its time zone",
        )
    else:
        due = milliseconds_of(effect.at)  # stored in whole milliseconds, rounded up
        due += milliseconds(effect.at - datetime_of(due))
    if not 0 <= due <= LATEST_MS:
        raise InvalidEffect(
            f"deadline {name!r} is set beyond the calendar", remedy="set it between 1970 and 9999"
        )
    if name == TIMEOUT:
        _cancel_timeout(draft)
    draft.arm(name, due)


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
