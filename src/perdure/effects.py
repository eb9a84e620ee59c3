"""Effects: what a handler says shall happen. Nothing does until the turn is committed.

    def handle(self, state, event, metadata):
        return [Send(ShipItem(state.order_id)), SetDeadline("delivered", after=timedelta(days=5))]

or, with the decorators, the same through the collector ``do``:

    @continues(PaymentReceived, by="order_id")
    def paid(self, state, event, do):
        do.send(ShipItem(state.order_id))
        do.deadline("delivered", timedelta(days=5))

This module knows no saga and no store. Next to read: ``core/turn.py``, which carries them out.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeAlias

from perdure.messages import Metadata

__all__ = [
    "CancelChild",
    "CancelDeadline",
    "Complete",
    "Effect",
    "Effects",
    "Fail",
    "Publish",
    "Record",
    "Reply",
    "Send",
    "SetDeadline",
    "StartChild",
    "Stuck",
]


@dataclass(slots=True)
class Record:
    """Record a further event in the journal; ``apply`` folds it into the state.

    ``stored`` is for the runtime: the event's bytes, so that one object may be returned by many
    turns and is encoded once.
    """

    event: Any
    stored: tuple[str, int, bytes] | None = None


@dataclass(slots=True)
class Send:
    """Send a command to a work queue (by default the one whose worker takes it), via the outbox.

        Send(SendReminder(state.order_id), delay=timedelta(days=3))

    ``after_previous``: it starts only when the command sent before it in this turn is done with;
    one that has failed for good holds it up until it is redriven or discarded. ``delay``: it starts
    no earlier than so long after the turn. ``within``: if it is not done so long after the turn, it
    has failed for good; a retry that would come later is not waited for.
    """

    command: Any
    queue: str | None = None
    after_previous: bool = False
    delay: timedelta | None = None
    within: timedelta | None = None


@dataclass(slots=True)
class Publish:
    """Publish an event to whoever is interested, through the outbox.

    Other instances of the same saga hear of it too; the instance that publishes does not: what it
    wants to fold itself it records (``Record``).
    ``mandatory``: if no saga and no subscriber of the runtime is, the turn fails, ``Unroutable``.
    """

    event: Any
    mandatory: bool = False


@dataclass(slots=True)
class SetDeadline:
    """Be told at a moment, ``at`` or ``after`` the turn's time; replaces one of the same name."""

    name: str
    after: timedelta | None = None
    at: datetime | None = None


@dataclass(slots=True)
class CancelDeadline:
    """Cancel the deadline of this name; nothing happens if there is none."""

    name: str


@dataclass(slots=True)
class Reply:
    """Answer the sender with this value, now and whenever the message is repeated."""

    value: Any


@dataclass(slots=True)
class Complete:
    """The process has reached its end. Its deadlines are cancelled; later messages are ignored.

    A ``result`` of a ``@message`` class is published too, if anybody is interested in it: a saga's
    result above all is what other sagas and subscribers want to hear. Not if it ``is_private``.
    """

    result: Any = None
    is_private: bool = False


@dataclass(slots=True)
class Fail:
    """The process has ended without reaching its goal. Otherwise as ``Complete``."""

    reason: str


@dataclass(slots=True)
class Stuck:
    """The process cannot go on by itself: it is listed as stuck, with the reason.

    It takes messages all the same. A turn without this effect sets it running again.
    """

    reason: str


@dataclass(slots=True)
class StartChild:
    """Start an instance of another saga with this message, and be told its end (``ChildEnded``).

        StartChild("kyc", Checks, CheckAsked(state.user_id))

    ``name`` is what this instance calls it; ``saga`` the class, object or name. Without an ``id``
    its correlation id is "own id/name". An instance of that id must not exist yet. If this instance
    fails, its open children are cancelled.
    """

    name: str
    saga: Any
    message: Any
    id: Any = None


@dataclass(slots=True)
class CancelChild:
    """Tell the open child of this name that it shall not go on; nothing happens if there is none.

    How it ends, and when, it says itself.
    """

    name: str
    reason: str = ""


Effect: TypeAlias = (
    Record
    | Send
    | Publish
    | SetDeadline
    | CancelDeadline
    | StartChild
    | CancelChild
    | Reply
    | Complete
    | Fail
    | Stuck
)


class Effects:
    """The collector ``do`` that decorated handlers receive: one verb per effect.

    ``do.now`` is the turn's time, ``do.metadata`` the message's.
    """

    __slots__ = ("collected", "metadata")

    def __init__(self, metadata: Metadata) -> None:
        self.metadata = metadata
        self.collected: list[Effect] = []

    @property
    def now(self) -> datetime:
        """The turn's time (aware, UTC); the same whenever the turn is looked at again."""
        return self.metadata.occurred_at

    def record(self, event: Any) -> None:
        """Record a further event in the journal."""
        self.collected.append(Record(event))

    def send(
        self,
        command: Any,
        *,
        queue: str | None = None,
        after_previous: bool = False,
        delay: timedelta | None = None,
        within: timedelta | None = None,
    ) -> None:
        """Send a command; see ``Send``."""
        self.collected.append(Send(command, queue, after_previous, delay, within))

    def publish(self, event: Any) -> None:
        """Publish an event to whoever is interested."""
        self.collected.append(Publish(event))

    def deadline(
        self, name: str, after: timedelta | None = None, *, at: datetime | None = None
    ) -> None:
        """Be told ``after`` this turn, or ``at`` a moment; replaces a deadline of the same name."""
        self.collected.append(SetDeadline(name, after, at))

    def cancel_deadline(self, name: str) -> None:
        """Cancel the deadline of this name, if there is one."""
        self.collected.append(CancelDeadline(name))

    def start_child(self, name: str, saga: Any, message: Any, *, id: Any = None) -> None:
        """Start an instance of another saga; see ``StartChild``."""
        self.collected.append(StartChild(name, saga, message, id))

    def cancel_child(self, name: str, reason: str = "") -> None:
        """Tell an open child that it shall not go on."""
        self.collected.append(CancelChild(name, reason))

    def reply(self, value: Any) -> None:
        """Answer the sender."""
        self.collected.append(Reply(value))

    def complete(self, result: Any = None) -> None:
        """End the process: it has reached its goal. A message as ``result`` is published, too."""
        self.collected.append(Complete(result))

    def fail(self, reason: str) -> None:
        """End the process: it cannot reach its goal."""
        self.collected.append(Fail(reason))

    def stuck(self, reason: str) -> None:
        """List the process as stuck until a turn that does not say so again."""
        self.collected.append(Stuck(reason))
