"""The exit codes of the command line, and which error ends in which.

Scripts rely on them: a number never changes its meaning. Next to read: ``app.py``.
"""

from __future__ import annotations

from enum import IntEnum

import perdure.errors as errors
from perdure.errors import PerdureError
from perdure.ops.control import NoAnswer, Refused
from perdure.ops.control.lines import BadRequest

__all__ = ["Exit", "exit_of"]


class Exit(IntEnum):
    """What the process ends with."""

    OK = 0
    FAILED = 1
    """It could not be done, or only in part; the error is on stderr."""
    USAGE = 2
    """The command line is wrong, or what it names cannot be loaded."""
    NOT_FOUND = 3
    """No such instance, queue, job or saga, or not any more; no such dead letter to show."""
    REFUSED = 4
    """It is there, but this cannot be done with it now; nothing was changed."""
    STORE = 5
    """The store cannot be used: in use, missing, of another version, no store, or no answer."""
    WARNING = 6
    """``health``: something needs a look."""
    CRITICAL = 7
    """``health``: something is broken."""
    INTERRUPTED = 130


_NOT_FOUND = (
    errors.InstanceNotFound,
    errors.UnknownSaga,
    errors.UnknownQueue,
    errors.UnknownJob,
    errors.Gone,
    errors.InstancePurged,
)
_STORE = (errors.StoreError, NoAnswer)
_USAGE = (errors.DefinitionError,)
_REFUSED = (errors.SendError, errors.CodecError, errors.JobError)
_FAILED = (errors.OutcomeUnknown, errors.SendTimeout, errors.HandlerFailed)


def exit_of(error: PerdureError) -> Exit:
    """The code for an error, here or in the runtime that was asked."""
    kind = error.like if isinstance(error, Refused) else type(error)
    if isinstance(error, BadRequest) or getattr(error, "kind", "") == BadRequest.__name__:
        return Exit.USAGE
    for kinds, code in (
        (_NOT_FOUND, Exit.NOT_FOUND),
        (errors.Unroutable, Exit.REFUSED),
        (_FAILED, Exit.FAILED),
        (_STORE, Exit.STORE),
        (_REFUSED, Exit.REFUSED),
        (_USAGE, Exit.USAGE),
    ):
        if issubclass(kind, kinds):
            return code
    return Exit.FAILED
