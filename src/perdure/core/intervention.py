"""What somebody who steps in has done to an instance, as it stands in the journal. Plain data.

    Intervention("skip", by="ann", why="bug 4711: wrong account", text="step 'charge' is skipped")

It is the message of a turn of its own. By itself it changes no state: whatever follows from it is
recorded beside it, as of any other turn. Next to read: ``intervening.py``, the turn;
``runtime/repair/repair.py``, who makes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from perdure.messages import AnyMessage, message

__all__ = ["Action", "Intervention"]


class Action(StrEnum):
    """What may be done to an instance by hand."""

    RETRY = "retry"
    SKIP = "skip"
    MARK_DONE = "mark_done"
    SEND = "send"
    REDRIVE = "redrive"
    DISCARD = "discard"
    CANCEL = "cancel"
    COMPENSATE = "compensate"
    RELEASE = "release"
    SET_DEADLINE = "set_deadline"
    CANCEL_DEADLINE = "cancel_deadline"
    RESTART_FROM = "restart_from"


@message(name="perdure.Intervention")
@dataclass(frozen=True, slots=True)
class Intervention:
    """Somebody has stepped in: what was done, who did it, and why.

    ``text`` says what was done in plain words. ``about`` is the step, command, deadline or dead
    letter it is about; ``content`` the message it is done with, ``commands`` those that are to be
    made up for; ``at`` the moment a deadline is set to. ``seen`` is the turn after which it was
    decided: the instance must not have had another since.
    """

    action: str
    by: str
    why: str
    text: str = ""
    about: str = ""
    content: AnyMessage | None = None
    commands: tuple[AnyMessage, ...] = ()
    at: datetime | None = None
    seen: int = 0

    def __str__(self) -> str:
        return f"{self.action} by {self.by} ({self.why}): {self.text}"
