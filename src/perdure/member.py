"""What a runtime takes beside process managers and work queues: anything that comes down to them.

    Runtime("memory://", [Order, trip, nightly, payments])

An ordered saga, a workflow and a schedule are objects; each is one saga for the kernel, perhaps
with work queues of its own, and perhaps with messages that must have been delivered once the
runtime runs. Knows no runtime. Next to read: ``core/saga.py``; ``runtime/blueprint.py``, where it
is asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from perdure.core.saga import Definition
from perdure.queue import WorkQueue

__all__ = ["Member", "Opening"]


@dataclass(frozen=True, slots=True)
class Opening:
    """A message that is delivered to an instance whenever the runtime starts.

    Under the same ``message_id`` it is a repeated one, and does nothing from the second time on.
    None: it is a new message each time.
    """

    correlation_id: str
    message: Any
    message_id: str | None


@runtime_checkable
class Member(Protocol):
    """A saga that is an object. All of it is asked before the runtime starts."""

    @property
    def name(self) -> str:
        """The name of its saga: it is stored, so keep it."""
        ...

    def definition(self) -> Definition:
        """The kernel's view. Raises ``DefinitionError`` for what was declared wrongly."""
        ...

    def queues(self) -> Sequence[WorkQueue]:
        """The work queues that its commands go to, if it has its own."""
        ...

    def openings(self) -> Iterable[Opening]:
        """The messages that its instances need to have had before anything else happens."""
        ...
