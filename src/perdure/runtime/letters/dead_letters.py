"""Dead letters: messages that could not be processed, kept whole with the reason.

Next to read: ``instances/saga_actor.py``, which decides that a message is one.
"""

from __future__ import annotations

import traceback

from perdure.core.commit import DeadLetterRow
from perdure.core.described import storable
from perdure.runtime.delivery import Delivery
from perdure.runtime.services import Services

__all__ = ["chain_of", "dead_letter"]

ERROR_CHARS_MAX = 8_000
"""So much of an error chain is kept: its beginning, and the larger part of its end."""


def dead_letter(
    services: Services, delivery: Delivery, reason: str, error: BaseException, attempts: int = 1
) -> DeadLetterRow:
    """The row that keeps this message; ``reason`` in a word, ``error`` with its chain."""
    message = delivery.message
    return DeadLetterRow(
        delivery.key,
        message.message_id,
        message.type,
        reason,
        chain_of(error),
        attempts,
        services.journal.encode_waiting(message, delivery.kind, delivery.strict),
        services.clock.now_ms(),
        consumes_inbox=delivery.waits,
    )


def chain_of(error: BaseException) -> str:
    text = "".join(traceback.format_exception(error))
    if len(text) > ERROR_CHARS_MAX:
        text = f"{text[: ERROR_CHARS_MAX // 4]}\n…\n{text[-ERROR_CHARS_MAX * 3 // 4 :]}"
    return storable(text)
