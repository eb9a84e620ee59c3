"""What log records say of the instance they are about, and that no text can forge a record.

    logger.warning("%s is stuck: %s", key, why, extra=about(key, message_id, attempt))

Every record of perdure's loggers has the fields ``saga``, ``correlation_id``, ``message_id`` and
``attempt``, each "" where it does not apply, so that a formatter may name them. A newline, an
escape sequence or a right-to-left mark in an id, a message or an error's text is shown escaped.
Next to read: ``transitions.py``.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Mapping

from perdure.core.correlation import split_key

__all__ = ["FIELDS", "about", "on_one_line"]

FIELDS = ("saga", "correlation_id", "message_id", "attempt")

_LOGGERS = (
    "perdure", "perdure.cluster", "perdure.control", "perdure.metrics", "perdure.observers",
    "perdure.ray", "perdure.repair", "perdure.retention", "perdure.run", "perdure.saga",
    "perdure.store", "perdure.supervised", "perdure.supervisor", "perdure.timers",
    "perdure.tracing", "perdure.transitions", "perdure.workers",
    "perdure.actors.actor", "perdure.actors.future", "perdure.actors.run_queue",
)  # fmt: skip
"""All but ``perdure.watch``, whose records hold a stack over many lines, and nobody's data."""


def about(key: str, message_id: str = "", attempt: int | str = "") -> Mapping[str, object]:
    """The fields of a record about an instance (``key``, "" for none) and a message, or job."""
    saga, correlation_id = split_key(key) if key else ("", "")
    return {
        "saga": on_one_line(saga),
        "correlation_id": on_one_line(correlation_id),
        "message_id": on_one_line(message_id),
        "attempt": attempt,
    }


def on_one_line(text: str) -> str:
    r"""The text, with what cannot be printed shown escaped.

    >>> on_one_line("o-1\nERROR all is lost")
    'o-1\\nERROR all is lost'
    """
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in text
    )


class _Plain(logging.Filter):
    """Lets every record pass, on one line and with all its fields."""

    def filter(self, record: logging.LogRecord) -> bool:
        for field in FIELDS:
            record.__dict__.setdefault(field, "")
        try:
            text = record.getMessage()
        except Exception:  # logging reports it where the record is formatted
            return True
        if not text.isprintable():
            record.msg, record.args = on_one_line(text), None
        error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
        if error is not None and not record.exc_text and _is_hostile(error):
            lines = "".join(traceback.format_exception(error)).split("\n")
            record.exc_text = "\n".join(f"    {on_one_line(line)}" for line in lines if line)
        return True


def _is_hostile(error: BaseException) -> bool:
    """The text of the error, or of one that led to it or is part of it, is not on one line."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        try:
            notes = "".join(getattr(one, "__notes__", ()))
            if not f"{one}{notes}".isprintable():
                return True
        except Exception:  # it cannot even be printed
            return True
        waiting += [one.__cause__, one.__context__]
        if isinstance(one, BaseExceptionGroup):
            waiting += one.exceptions
    return False


for _name in _LOGGERS:
    logging.getLogger(_name).addFilter(_Plain())
