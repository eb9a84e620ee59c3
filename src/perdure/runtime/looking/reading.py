"""What it takes to read instances: a store and the codec for what lies in it.

A running runtime has it (``services.py``), and so has whoever looks at a store from outside.
Next to read: ``instances/rehydration.py``, ``history.py``, ``then.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from perdure.codec import Codec
from perdure.codec.journal import JournalCodec
from perdure.runtime.watching.tracing import Spans
from perdure.settings import Settings
from perdure.store.protocol import Store

__all__ = ["Reader", "Reading"]


class Reading(Protocol):
    """Where instances are read from, and how."""

    @property
    def store(self) -> Store:
        """Where their rows are."""
        ...

    @property
    def settings(self) -> Settings:
        """How much is remembered of each."""
        ...

    @property
    def codec(self) -> Codec:
        """For users' values."""
        ...

    @property
    def journal(self) -> JournalCodec:
        """For the rows around them."""
        ...

    @property
    def spans(self) -> Spans | None:
        """Who wants to know what was traced of them; None: nobody."""
        ...


@dataclass(frozen=True, slots=True)
class Reader:
    """A ``Reading`` without a runtime."""

    store: Store
    settings: Settings
    codec: Codec
    journal: JournalCodec
    spans: None = None
