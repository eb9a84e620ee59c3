"""What a coroutine workflow meets where it awaits, and what it may do wrong.

    try:
        await ctx.step(charge, order)
    except StepFailed as failure:
        await ctx.step(tell_customer, failure.error)

Part of the tree in ``errors.py``, apart for its length. Next to read: ``workflow_context.py``.
"""

from __future__ import annotations

from perdure.error_base import DefinitionError, PerdureError

__all__ = [
    "AskedTwice",
    "ChildFailed",
    "ForeignAwait",
    "StepFailed",
    "UnknownStep",
    "WorkflowCancelled",
    "WorkflowMistake",
]


class StepFailed(PerdureError):
    """A step has failed for good. Raised where the coroutine awaits it.

    ``step`` is its name, with its key; ``reason`` one of those of ``CommandFailed``, ``error`` the
    last error in a line. ``is_unknown``: it may have had its effect all the same.
    """

    def __init__(self, step: str, reason: str, error: str, is_unknown: bool = False) -> None:
        super().__init__(f"step {step!r} has failed ({reason}): {error}")
        self.step = step
        self.reason = reason
        self.error = error
        self.is_unknown = is_unknown


class ChildFailed(PerdureError):
    """A child has failed, was never started, or did not end in time.

    Raised where the coroutine awaits it. ``reason`` is "failed" or "timed out".
    """

    def __init__(self, child: str, reason: str, error: str) -> None:
        super().__init__(f"child {child!r} has {reason}" + (f": {error}" if error else ""))
        self.child = child
        self.reason = reason
        self.error = error


class WorkflowCancelled(BaseException):
    """The instance shall not go on. Raised once, wherever the coroutine waits at that moment.

        try:
            await ctx.step(ship, order)
        except WorkflowCancelled:
            await ctx.step(take_back, order)        # is done, and then
            raise                                   # the instance fails: "cancelled: …"

    It is no ``Exception``: ``except Exception`` around a step does not swallow it.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class WorkflowMistake(DefinitionError):
    """A coroutine workflow asks for what it may not: the instance is stuck, and nothing is guessed.

    It is kept as it is, and goes on when code that is mended runs, with its next message or
    ``runtime.resume``. Cancelled twice, it fails.
    """


class UnknownStep(WorkflowMistake):
    """The workflow does not declare this step, or this event; or does so no longer."""


class AskedTwice(WorkflowMistake):
    """One name and key is asked for twice: nobody could tell the two apart after a restart."""


class ForeignAwait(WorkflowMistake):
    """The coroutine awaits what did not come from its context, and nothing would wake it."""
