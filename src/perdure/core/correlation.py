"""Which instance a message is for: verdicts, and ids as text without collisions.

    def correlate(self, event, metadata):
        match event:
            case OrderPlaced():     return Start(event.order_id)
            case MoneyMoved():      return Continue(("transfer", event.source, event.target))
            case _:                 return Ignore

Knows no saga and no instance. Next to read: ``saga.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final, TypeAlias
from uuid import UUID

from perdure.core.described import shown
from perdure.errors import CorrelationFailed

__all__ = [
    "Continue",
    "Ignore",
    "Start",
    "Stop",
    "Verdict",
    "VerdictKind",
    "Verdicts",
    "encode_id",
    "instance_key",
    "split_key",
]

ID_BYTES_MAX = 1024
ID_BITS_MAX = 3_000
"""Of a number, whose text then has less than ID_BYTES_MAX; Python refuses to write longer ones."""


class VerdictKind(IntEnum):
    """What a verdict asks of the instance. CONTINUE is the plain case."""

    START = 1
    CONTINUE = 2
    STOP = 3


@dataclass(slots=True, unsafe_hash=True)
class Start:
    """Start the instance of this id; continue it if it exists (the strict variant refuses)."""

    id: Any
    strict: bool = False


@dataclass(slots=True, unsafe_hash=True)
class Continue:
    """Continue the instance of this id. If there is none, the saga's ``on_missing`` decides."""

    id: Any
    strict: bool = False


@dataclass(slots=True, unsafe_hash=True)
class Stop:
    """Continue the instance of this id with the message, then complete it (if a guard admits)."""

    id: Any
    strict: bool = False


class _Ignore:
    """The message concerns no instance of this saga."""

    def __repr__(self) -> str:
        return "Ignore"


Ignore: Final = _Ignore()
Verdict: TypeAlias = Start | Continue | Stop
Verdicts: TypeAlias = Verdict | list[Verdict] | _Ignore
"""What ``correlate`` may answer: one verdict, a list of them, or ``Ignore``."""


def encode_id(value: Any) -> str:
    """The text of a correlation id.

    >>> encode_id("o-1"), encode_id(42), encode_id(("a", "bc")), encode_id(("ab", "c"))
    ('o-1', '42', '(a,bc)', '(ab,c)')

    A single id is its text, so that an int or UUID and its text mean the same instance (ids arrive
    as text from URLs and the command line). A tuple is written unambiguously: different tuples of
    texts, nested or not, never share an encoding, nor does a tuple share one with a plain text.

    Raises ``CorrelationFailed`` for None, empty, over-long (1024 bytes) or other ids.
    """
    if type(value) is str:
        text = f"\\{value}" if value.startswith(("(", "\\")) else value
    elif type(value) is tuple:
        text = _encode_tuple(value)
    else:
        text = _plain_text(value)
    _check(value, text)
    return text


def _encode_tuple(parts: tuple[Any, ...]) -> str:
    if not parts:
        raise CorrelationFailed("an empty tuple is no correlation id", remedy="give it a part")
    return f"({','.join(map(_encode_part, parts))})"


def _encode_part(part: Any) -> str:
    if isinstance(part, tuple):
        return _encode_tuple(part)
    text = part if isinstance(part, str) else _plain_text(part)
    for special in "\\,()":
        text = text.replace(special, f"\\{special}")
    return text


def _plain_text(value: Any) -> str:
    if isinstance(value, str):  # a StrEnum, for one
        return str.__str__(value)
    if isinstance(value, UUID) or (
        isinstance(value, int) and not isinstance(value, bool) and value.bit_length() <= ID_BITS_MAX
    ):
        return str(value)
    raise CorrelationFailed(
        f"{shown(value)} of type {type(value).__name__} is no correlation id",
        remedy="use a text, an int, a UUID or a tuple of those",
    )


def _check(value: Any, text: str) -> None:
    if not text:
        raise CorrelationFailed("an empty correlation id", remedy="send the id of the instance")
    if text.isascii() and len(text) <= ID_BYTES_MAX:
        size = len(text)
    else:
        try:
            size = len(text.encode())
        except UnicodeEncodeError:
            raise CorrelationFailed(
                f"correlation id {shown(value)} is not valid Unicode", remedy="clean the text first"
            ) from None
    if size > ID_BYTES_MAX or "\0" in text:
        raise CorrelationFailed(
            f"correlation id {text[:40]!r}… has {size} bytes or a NUL",
            remedy=f"at most {ID_BYTES_MAX} bytes without NUL",
        )


def instance_key(saga: str, correlation_id: str) -> str:
    """The name of an instance in the store: "Saga/correlation id" (saga names hold no slash)."""
    return f"{saga}/{correlation_id}"


def split_key(key: str) -> tuple[str, str]:
    """(saga, correlation id) of an instance's name."""
    saga, _, correlation_id = key.partition("/")
    return saga, correlation_id
