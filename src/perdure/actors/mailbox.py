"""Where an actor's mail waits, and where mail for a dead actor is refused.

Implements pykka's ``ActorInbox``: ``put`` may be called in any thread, all else in the thread of
the actor's event loop. What other threads put travels through the run queue, so that there is
nothing to lock and no moment between "is it closed?" and "append". Must not know what messages
mean, except which of them asks to stop.
Next to read: ``run_queue.py``, which gives the reader of a mailbox its turn.
"""

from __future__ import annotations

import contextlib
import functools
import queue
import threading
from collections import deque
from typing import Any, Protocol

from pykka import ActorDeadError, messages
from pykka._envelope import Envelope

from perdure.actors.run_queue import Runnable, RunQueue

__all__ = ["Envelope", "Mailbox", "Reader", "is_stop"]


class Reader(Runnable, Protocol):
    """The actor that reads a mailbox."""

    def on_unreachable(self) -> None:
        """The reader will never be run again: it is to end and close its mailbox."""

    def on_refused(self, envelope: Envelope[Any]) -> None:
        """The mailbox closed before this ``tell`` was taken, and its sender cannot know."""


class Mailbox:
    """The envelopes that wait for one actor.

        mailbox.put(Envelope("hello"))      # queues the reader for a turn
        envelope = mailbox.take()           # in that turn; None: nothing waits

    A mailbox is *parked* while its reader neither has a turn coming nor is at work: then, and only
    then, mail that arrives schedules the reader. It starts unparked, since the first turn of an
    actor comes without mail. An empty mailbox owns no queue.

    Every envelope ends in exactly one way: taken, refused in ``put``, or refused at or after
    ``close`` (an ask gets ``ActorDeadError``, a request to stop succeeds, a tell goes to
    ``Reader.on_refused``).
    """

    __slots__ = ("_envelopes", "_parked", "_reader", "_run_queue", "_suspended")

    def __init__(self, reader: Reader, run_queue: RunQueue) -> None:
        self._reader: Reader | None = reader  # None: closed. That also ends the reference cycle.
        self._run_queue = run_queue
        self._envelopes: deque[Envelope[Any]] | None = None
        self._parked = False
        self._suspended = False

    def put(self, envelope: Envelope[Any], /) -> None:
        """Add an envelope, from any thread.

        Raises ``ActorDeadError`` for a ``tell`` to a closed mailbox, or one whose event loop is
        closed. An ``ask`` never raises here: its future does.
        """
        reader, run_queue = self._reader, self._run_queue
        if reader is not None:
            if run_queue.is_closed():
                reader.on_unreachable()
            elif threading.get_ident() != run_queue.thread_id:
                run_queue.post(functools.partial(self._arrive, reader, envelope))
                return
            else:
                if run_queue.arrivals:  # What other threads put before goes before.
                    run_queue.admit()
                if self._reader is not None:
                    self._append(envelope)
                    return
        if not _refuse(envelope, reader):
            raise ActorDeadError("the actor stopped before it could be told")

    def take(self) -> Envelope[Any] | None:
        """Remove and return the oldest envelope; None, and parked, if there is none to be had."""
        waiting = self._envelopes
        if waiting is None or self._suspended:
            self._parked = True
            return None
        envelope = waiting.popleft()
        if not waiting:
            self._envelopes = None
        return envelope

    def get(self) -> Envelope[Any]:
        """``take`` as pykka spells it. Raises ``queue.Empty`` instead of waiting for mail."""
        envelope = self.take()
        if envelope is None:
            raise queue.Empty
        return envelope

    def empty(self) -> bool:
        return self._envelopes is None

    @property
    def is_idle(self) -> bool:
        """Nothing waits, nothing is at work, and mail that comes would be taken at once."""
        return self._parked and self._envelopes is None and not self._suspended

    @property
    def is_closed(self) -> bool:
        return self._reader is None

    def suspend(self) -> None:
        """Let mail accumulate: the reader is given none and gets no turn until ``resume``."""
        self._suspended = True

    def resume(self) -> None:
        """End ``suspend``; what has accumulated is taken as if it had just arrived."""
        self._suspended = False
        if self._parked and self._envelopes is not None and self._reader is not None:
            self._parked = False
            self._run_queue.schedule(self._reader)

    def take_all(self) -> list[Envelope[Any]]:
        """Remove and return all that waits, oldest first, also while suspended."""
        self._run_queue.admit()
        waiting, self._envelopes = self._envelopes, None
        return list(waiting or ())

    def seal(self) -> list[Envelope[Any]]:
        """Close, and return what waited instead of refusing it. A second time: nothing."""
        waiting = self.take_all()
        self._reader = None
        return waiting

    def close(self) -> None:
        """Accept nothing more and refuse what waits."""
        reader = self._reader
        if reader is not None:
            for envelope in self.seal():
                if not _refuse(envelope, reader):
                    reader.on_refused(envelope)

    def _arrive(self, reader: Reader, envelope: Envelope[Any]) -> None:
        """Mail from another thread reached the thread of the loop, or its loop is closed."""
        if self._reader is not None and not self._run_queue.is_closed():
            self._append(envelope)
        elif not _refuse(envelope, reader):
            reader.on_refused(envelope)

    def _append(self, envelope: Envelope[Any]) -> None:
        if self._envelopes is None:
            self._envelopes = deque()
        self._envelopes.append(envelope)
        if self._parked and not self._suspended:
            assert self._reader is not None
            self._parked = False
            self._run_queue.schedule(self._reader)


def is_stop(envelope: Envelope[Any]) -> bool:
    """The envelope asks its actor to stop, as ``ActorRef.stop`` does."""
    return isinstance(envelope.message, messages._ActorStop)


def _refuse(envelope: Envelope[Any], reader: Reader | None) -> bool:
    """Answer on behalf of a dead actor. False: there is nobody to answer to."""
    if envelope.reply_to is None:
        # A request to stop has what it wants; any other ``tell`` would be lost.
        return is_stop(envelope)
    with contextlib.suppress(queue.Full):  # Somebody else resolved it: no reply is missing.
        if is_stop(envelope):
            envelope.reply_to.set(None)
        else:
            error = ActorDeadError(f"{reader or 'the actor'} stopped before handling the message")
            envelope.reply_to.set_exception((ActorDeadError, error, None))
    return True
