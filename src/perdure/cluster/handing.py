"""A delivery at the runtime of its owner, on behalf of somebody elsewhere: in any case, and heard.

    hand(running, delivery, hearer, Wishes(is_told=True))

The hearer learns of the end exactly once: taken, refused, or that it has to come again, since this
runtime is not its owner any more. What was told, so that nobody waits for it, becomes a dead letter
if it is refused, as it does with a runtime of one's own. Next to read: ``letters.py`` and
``mailed.py``, who hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from perdure.core.commit import Settlement
from perdure.errors import Fenced, RuntimeNotRunning
from perdure.runtime.delivery import Delivery, Receipt
from perdure.runtime.instances.supervisor import Supervisor
from perdure.runtime.running import Running

__all__ = ["GONE", "Hearer", "Wishes", "hand"]

GONE: tuple[type[Exception], ...] = (RuntimeNotRunning, Fenced)
"""The runtime is not the owner any more, or will not be: another one takes the message."""


class Hearer(Protocol):
    """Who is told what became of a delivery."""

    def taken(self, receipt: Receipt) -> None:
        """It was taken, durably."""
        ...

    def refused(self, error: BaseException, is_written: bool) -> None:
        """It was not applied. ``is_written``: a dead letter or a turn tells of it here."""
        ...

    def later(self, error: BaseException) -> None:
        """It was not applied here, and is to come again."""
        ...


@dataclass(frozen=True, slots=True)
class Wishes:
    """What is to be known of a delivery, and done.

    ``is_told``: nobody waits for it. ``settles``: whether something was written of it matters.
    ``again``: the errors after which it comes again. ``insists``: a store that fails is waited for.
    """

    is_told: bool = False
    settles: bool = False
    again: tuple[type[Exception], ...] = GONE
    insists: bool = False


def hand(running: Running, delivery: Delivery, hearer: Hearer, wishes: Wishes) -> None:
    """Deliver, whether or not there is room: it takes up its sender's."""
    supervisor = running.supervisor
    delivery.reply = _Handed(supervisor, delivery, hearer, wishes)
    if wishes.is_told or wishes.settles:
        # An empty one: that it is gone says afterwards that something was written.
        delivery.settlement = Settlement(delivery.key)
    supervisor.admit(delivery)


class _Handed:
    """Hears what became of the delivery."""

    __slots__ = ("_delivery", "_hearer", "_supervisor", "_wishes")

    def __init__(
        self, supervisor: Supervisor, delivery: Delivery, hearer: Hearer, wishes: Wishes
    ) -> None:
        self._supervisor = supervisor
        self._delivery = delivery
        self._hearer = hearer
        self._wishes = wishes

    @property
    def insists(self) -> bool:
        """It is written for as long as that takes; see ``saga_actor.py``."""
        return self._wishes.insists

    def resolve(self, receipt: Receipt) -> None:
        self._hearer.taken(receipt)

    def refuse(self, error: BaseException) -> None:
        wishes = self._wishes
        is_asked = wishes.is_told or wishes.settles
        is_written = is_asked and self._delivery.settlement is None
        if not is_written and isinstance(error, wishes.again):
            self._hearer.later(error)
        elif wishes.is_told and not is_written:
            self._bury(error)
        else:
            self._hearer.refused(error, is_written)

    def _bury(self, error: BaseException) -> None:
        """A dead letter is all that is left of it; heard when that is written."""
        told, hearer = self._delivery.fresh(), self._hearer

        def buried(delivery: Delivery, said: BaseException | None) -> None:
            if said is error:
                hearer.refused(error, True)
            else:
                hearer.later(said or error)

        told.on_answer = buried
        self._supervisor.admission.count(told)
        self._supervisor.told_letters.bury(told, error)
