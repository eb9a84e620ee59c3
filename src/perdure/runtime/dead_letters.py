"""Dead letters: messages that could not be processed, kept whole with the reason.

Next to read: ``saga_actor.py``, which decides that a message is one.
"""

from __future__ import annotations

import traceback

from perdure.core.commit import DeadLetterRow
from perdure.runtime.delivery import Delivery
from perdure.runtime.services import Services

__all__ = ["chain_of", "dead_letter", "described", "in_short"]

LINE_CHARS_MAX = 500

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


def described(error: BaseException) -> str:
    """The error in a line, "ValueError: no such account", even if it cannot be printed."""
    return _storable("".join(traceback.format_exception_only(error)).strip())


def in_short(error: BaseException) -> str:
    """The error in a line that is not long."""
    line = described(error).replace("\n", " ")
    return line if len(line) <= LINE_CHARS_MAX else f"{line[:LINE_CHARS_MAX]}…"


def chain_of(error: BaseException) -> str:
    text = "".join(traceback.format_exception(error))
    if len(text) > ERROR_CHARS_MAX:
        text = f"{text[: ERROR_CHARS_MAX // 4]}\n…\n{text[-ERROR_CHARS_MAX * 3 // 4 :]}"
    return _storable(text)


def _storable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
