"""What a message to a coroutine workflow brings with it, whatever the coroutine makes of it. Pure.

A limit that is not needed any more is taken back, a child that is not waited for any longer is
told. Next to read: ``progress.py``; ``reentry.py``, for what the coroutine asks for.
"""

from __future__ import annotations

from typing import Any

from perdure.core.family import Cancel, ChildEnded
from perdure.core.progress import CHILD, Progress, Standing
from perdure.effects import CancelChild, CancelDeadline, Effect
from perdure.messages import DeadlineReached, TimeoutReached

__all__ = ["consequences"]


def consequences(progress: Progress, event: Any, sequence_nr: int) -> list[Effect]:
    """The effects; ``progress`` is the one after the event was folded, in turn ``sequence_nr``."""
    kind = type(event)
    if kind is ChildEnded:
        return [CancelDeadline(f"{CHILD}{event.name}")]
    if kind is DeadlineReached and event.name.startswith(CHILD):
        return [_cancelled(event.name, "timed out")]
    if kind is Cancel or kind is TimeoutReached:
        reason = event.reason if kind is Cancel else "timed out"
        found: list[Effect] = []
        for name, operation in progress.operations.items():
            if operation.status is Standing.CANCELLED and operation.ended_nr == sequence_nr:
                found.append(CancelDeadline(name))
                if name.startswith(CHILD):
                    found.append(_cancelled(name, reason))
        return found
    return []


def _cancelled(name: str, reason: str) -> CancelChild:
    return CancelChild(name.removeprefix(CHILD), reason)
