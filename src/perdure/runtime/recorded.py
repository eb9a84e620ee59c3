"""A repeated message is answered as it was the first time: as its turn stands in the journal.

Next to read: ``saga_actor.py``, which finds that it is a repeated one.
"""

from __future__ import annotations

import asyncio

from perdure.errors import StoreUnavailable
from perdure.runtime.delivery import Delivery, refusal
from perdure.runtime.services import Services

__all__ = ["answer_recorded"]

_AGAIN = "send it again under the same message id"


async def answer_recorded(services: Services, delivery: Delivery, sequence_nr: int) -> None:
    """The message was processed in that turn of its instance: answer so."""
    try:
        rows = await services.store.journal(delivery.key, sequence_nr - 1, 1)
        turn = services.journal.read_turn(rows[0].body)
        outcome = services.journal.outcome_of(turn)
        if turn.refused:
            delivery.refuse(refusal(delivery, outcome))
            return
        reply = None if turn.reply is None else services.codec.decode_value(turn.reply)
    except Exception as error:
        delivery.refuse(error)
        return
    except asyncio.CancelledError:  # of a call of the driver
        delivery.refuse(StoreUnavailable("the recorded answer could not be read", remedy=_AGAIN))
        return
    delivery.answer(outcome, sequence_nr, reply, duplicate=delivery.attempts == 0)
