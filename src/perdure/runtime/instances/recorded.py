"""A repeated message is answered as it was the first time: as its turn stands in the journal.

Of an instance that was purged there is no such turn: it has ended, is all that can be said.
Next to read: ``saga_actor.py``, which finds that it is a repeated one.
"""

from __future__ import annotations

import asyncio

from perdure.core.outcome import Outcome
from perdure.errors import StoreUnavailable
from perdure.runtime.delivery import Delivery, refusal
from perdure.runtime.looking.purged import is_tombstone
from perdure.runtime.services import Services

__all__ = ["answer_recorded"]

_AGAIN = "send it again under the same message id"


async def _is_purged(services: Services, key: str) -> bool:
    """Whether there is nothing of the instance any more, or only its tombstone."""
    (loaded,) = await services.store.load([key])
    if loaded.corrupt is not None:
        raise loaded.corrupt
    return is_tombstone(services, loaded) or not (loaded.snapshot or loaded.turns)


async def answer_recorded(services: Services, delivery: Delivery, sequence_nr: int) -> None:
    """The message was processed in that turn of its instance: answer so."""
    try:
        rows = await services.store.journal(delivery.key, sequence_nr - 1, 1)
        if (not rows or rows[0].sequence_nr != sequence_nr) and await _is_purged(
            services, delivery.key
        ):
            delivery.answer(Outcome.FINISHED, duplicate=delivery.attempts == 0)
            return
        turn = services.journal.read_turn(rows[0].body)
        outcome = services.journal.outcome_of(turn)
        if turn.refused:
            delivery.refuse(refusal(delivery, outcome))
            return
        # Whoever tells of a job, or has told, does not look at it; it may be of newer code.
        packed = turn.reply if delivery.settlement is None else None
        reply = None if packed is None else services.codec.decode_value(packed)
    except Exception as error:
        delivery.refuse(error)
        return
    except asyncio.CancelledError:  # of a call of the driver
        delivery.refuse(StoreUnavailable("the recorded answer could not be read", remedy=_AGAIN))
        return
    delivery.answer(outcome, sequence_nr, reply, duplicate=delivery.attempts == 0)
