"""Told messages that could not be applied: each becomes a dead letter, also in a store's outage.

Nobody waits for their answer, so a dead letter is all that is left of them. It is written until it
is durable, and takes up the message's room until then: a flood of them meets a full mailbox, not
the end of the memory. Next to read: ``letters/dead_letters.py``.
"""

from __future__ import annotations

import logging

from perdure.core.commit import DeadLetterRow
from perdure.errors import StoreError
from perdure.runtime.clock import Wake
from perdure.runtime.delivery import Delivery
from perdure.runtime.instances.admission import Admission
from perdure.runtime.letters.dead_letters import dead_letter
from perdure.runtime.services import Services
from perdure.runtime.watching.logs import about

__all__ = ["ToldLetters"]

logger = logging.getLogger("perdure.supervisor")


class ToldLetters:
    """The dead letters of told messages that are on their way to the store."""

    def __init__(self, services: Services, admission: Admission) -> None:
        self.services = services
        self.admission = admission
        self._pausing: dict[_Letter, Wake] = {}
        self._is_closed = False

    def bury(self, delivery: Delivery, error: BaseException) -> None:
        """Make it a dead letter, then refuse it: with ``error``, or why not even that is kept."""
        logger.error(
            "%s was told and not applied: %s",
            delivery.message.type,
            error,
            extra=about(delivery.key, delivery.message.message_id),
        )
        letter = dead_letter(self.services, delivery, type(error).__name__, error)
        self.services.commit.submit(_Letter(self, delivery, letter, error))

    def later(self, letter: _Letter, error: StoreError) -> None:
        """It could not be written now."""
        if self._is_closed:
            letter.left_out(error)
            return

        def again() -> None:
            if self._pausing.pop(letter, None) is not None:
                self.admission.resume(letter.delivery.key)
                self.services.commit.submit(letter)

        self.admission.pause(letter.delivery.key)
        what = f"the dead letter of {letter.delivery.message.type}"
        self._pausing[letter] = self.services.pause(what, again, letter.failures)

    def close(self) -> None:
        """The runtime has stopped: those that pause are tried for the last time."""
        self._is_closed = True
        self.end_pauses()

    def end_pauses(self) -> None:
        """The runtime stops: those that pause are tried once more."""
        pausing, self._pausing = self._pausing, {}
        for letter, wake in pausing.items():
            wake.cancel()
            self.admission.resume(letter.delivery.key)
            self.services.commit.submit(letter)


class _Letter:
    """A dead letter on its way to the store; a ticket of the group commit."""

    is_void = False

    def __init__(
        self,
        letters: ToldLetters,
        delivery: Delivery,
        entry: DeadLetterRow,
        error: BaseException,
    ) -> None:
        self._letters = letters
        self._error = error
        self.delivery = delivery
        self.entry = entry
        self.failures = 0

    def written(self) -> None:
        self.delivery.refuse(self._error)

    def left_out(self, error: StoreError) -> None:
        logger.error(
            "%s was told to %s, and not even its dead letter could be kept: %s",
            self.delivery.message.type, self.delivery.key, error,
            extra=about(self.delivery.key, self.delivery.message.message_id),
        )  # fmt: skip
        self.delivery.refuse(error)

    def unknown(self, error: StoreError) -> None:
        self.failures += 1
        self._letters.later(self, error)
