"""Every error perdure raises, in one tree.

    PerdureError
    ├── DefinitionError            a saga, message or setting is declared wrongly
    │   ├── DuplicateHandler       one method name, or one handler, declared twice in a saga class
    │   ├── DuplicateSaga          two sagas of one name in a runtime
    │   ├── DuplicateMessageType   two classes claim one type name
    │   ├── DuplicateWorker        two workers, or two queues, for one command
    │   ├── NotAPlainFunction      a coroutine where a plain function is needed
    │   └── WorkflowMistake        a coroutine workflow asks for what it may not; it is stuck
    │       ├── UnknownStep        … for a step, or an event, that it does not declare
    │       ├── AskedTwice         … under one name and key twice
    │       └── ForeignAwait       … and awaits what is not its context's
    ├── SendError                  a message was not applied; raised at its sender
    │   ├── UnknownSaga            the runtime does not run a saga of that name
    │   ├── UnknownMessageType     no class, and no saga, knows this type
    │   ├── CorrelationFailed      the message does not say which instance it is for
    │   ├── InstanceNotFound       strict continue or stop, and there is no instance
    │   ├── InstanceAlreadyExists  strict start of an instance that exists
    │   ├── InstanceFinished       strict message for an instance that has ended
    │   ├── MessageNotHandled      strict message that no handler accepts in the present state
    │   ├── HandlerFailed          the saga's code raised; the message is a dead letter now
    │   │   ├── TurnTooLong        … or took longer than turn_limit_s
    │   │   └── InvalidEffect      … or returned something that is not an effect, or no state
    │   │       └── Unroutable     … or sent a command that no work queue of the runtime takes,
    │   │                          or what must interest somebody and does not
    │   ├── MailboxFull            waited for room, found none; nothing was kept
    │   ├── SendTimeout            no answer within timeout_s; repeat under the same id
    │   ├── OutcomeUnknown         the store failed while committing; repeat under the same id
    │   ├── InstanceQuarantined    the instance's journal cannot be trusted or read; bytes are kept
    │   ├── NotJoinable            a message cannot be part of the transaction that was given
    │   ├── NotRepairable          a repair does not fit how its instance stands; nothing was done
    │   │   └── InstanceMoved      … which has had a turn since somebody looked
    │   ├── PublishFailed          some of several instances did not take a published message
    │   └── RuntimeNotRunning      not started, stopping or stopped
    ├── Escalated                  a saga has failed, and the runtime has stopped for it
    ├── SagaFailed                 the instance whose end was awaited did not reach its goal
    ├── SagaStuck                  … or cannot go on before somebody has seen to it
    ├── InstancePurged             what is asked for is not kept any more of the instance
    ├── StepFailed                 raised in a coroutine workflow where it awaits the step
    ├── ChildFailed                … where it awaits the child
    ├── JobError                   a job of a work queue
    │   ├── NonRetryable           for workers to raise: do not try again, it cannot succeed
    │   ├── RetryLater             for workers to raise: try again after a stated time
    │   ├── LeaseLost              the job was taken from this worker: cancelled, or too slow
    │   ├── InvalidResult          a worker returned or emitted what is no message, or not storable
    │   ├── UnknownQueue           the runtime has no such work queue
    │   └── UnknownJob             no such job waits or runs
    ├── InvalidQuery               a question about instances that cannot be asked so
    │   └── NotIndexed             … not yet: instances have to be indexed once
    ├── CodecError
    │   ├── EncodeError            a value cannot be stored exactly; raised at its sender
    │   │   ├── UnregisteredType   the class has no type name; decorate it with @message
    │   │   └── NaiveDatetime      a datetime without time zone
    │   ├── DecodeError            stored or received bytes do not fit their type
    │   │   ├── UnknownType        no class for this type name
    │   │   └── UnknownVersion     written by newer code, or an upcaster is missing
    │   └── LimitExceeded          too many bytes, elements or levels
    └── StoreError
        ├── StoreUnavailable       cannot be opened, read or written now
        │   ├── StoreNotWritable   path missing or no permission
        │   └── StoreFull          the disk is full; reads go on
        ├── NotADatabase           the file holds something else
        ├── SchemaTooNew           written by a newer perdure
        ├── SchemaTooOld           written by an older perdure, in a format it no longer reads
        ├── StoreLocked            another runtime owns the file
        ├── SequenceConflict       another turn took this sequence number
        ├── Gone                   what was to be changed, or shown, is not there any more
        ├── Fenced                 another owner has taken over: a newer epoch is in the store
        └── CorruptRecord          a stored row fails its checksum or is missing

``WorkflowCancelled`` is raised where a coroutine workflow waits that shall not go on; it is no
``Exception``, so that nobody takes it for a step that failed.

An error names the saga and the correlation id it concerns and says what to do.
Next to read: ``store_errors.py``, ``workflow_errors.py``; ``messages.py`` and ``effects.py``, what
sagas exchange.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from perdure.error_base import DefinitionError as DefinitionError
from perdure.error_base import PerdureError as PerdureError
from perdure.store_errors import CorruptRecord as CorruptRecord
from perdure.store_errors import Fenced as Fenced
from perdure.store_errors import Gone as Gone
from perdure.store_errors import NotADatabase as NotADatabase
from perdure.store_errors import SchemaTooNew as SchemaTooNew
from perdure.store_errors import SchemaTooOld as SchemaTooOld
from perdure.store_errors import SequenceConflict as SequenceConflict
from perdure.store_errors import StoreError as StoreError
from perdure.store_errors import StoreFull as StoreFull
from perdure.store_errors import StoreLocked as StoreLocked
from perdure.store_errors import StoreNotWritable as StoreNotWritable
from perdure.store_errors import StoreUnavailable as StoreUnavailable
from perdure.workflow_errors import AskedTwice as AskedTwice
from perdure.workflow_errors import ChildFailed as ChildFailed
from perdure.workflow_errors import ForeignAwait as ForeignAwait
from perdure.workflow_errors import StepFailed as StepFailed
from perdure.workflow_errors import UnknownStep as UnknownStep
from perdure.workflow_errors import WorkflowCancelled as WorkflowCancelled
from perdure.workflow_errors import WorkflowMistake as WorkflowMistake

for _error in [*vars().values()]:
    if isinstance(_error, type) and issubclass(_error, BaseException):
        _error.__module__ = __name__  # where users find them, and what tracebacks say


class DuplicateHandler(DefinitionError):
    """One name or handler is declared twice in a saga class; Python would keep only the last."""


class DuplicateSaga(DefinitionError):
    """Two sagas of one name in one runtime."""


class DuplicateMessageType(DefinitionError):
    """Two classes claim one type name."""


class DuplicateWorker(DefinitionError):
    """Two workers take one command, or two work queues have one name."""


class NotAPlainFunction(DefinitionError):
    """A coroutine function was given where a plain function is needed."""


class SendError(PerdureError):
    """A message was not applied."""


class UnknownSaga(SendError):
    """The runtime does not run a saga of that name."""


class UnknownMessageType(SendError):
    """No class and no saga knows this message type."""


class CorrelationFailed(SendError):
    """The message does not say which instance it is for."""


class InstanceNotFound(SendError):
    """A strict continue or stop found no instance."""


class InstanceAlreadyExists(SendError):
    """A strict start found the instance there already, running or finished."""


class InstanceFinished(SendError):
    """A strict message found its instance completed or failed."""


class MessageNotHandled(SendError):
    """A strict message that no handler accepts in the instance's present state."""


class HandlerFailed(SendError):
    """The saga's code raised. Nothing of the turn was kept; the message is a dead letter.

    The original exception is ``__cause__``.
    """


class TurnTooLong(HandlerFailed):
    """The saga's code came to its end, but took longer than ``turn_limit_s``."""


class InvalidEffect(HandlerFailed):
    """The saga's code returned something that is not an effect."""


class Unroutable(InvalidEffect):
    """The saga's code sent a command that no work queue of the runtime takes.

    Or it published, as mandatory, what no saga and no subscriber of the runtime is interested in.
    """


class MailboxFull(SendError):
    """The instance's mailbox stayed full for the whole wait. The message was not kept."""


class SendTimeout(SendError):
    """No answer within ``timeout_s``. The message may still be applied: repeat it under its id."""


class OutcomeUnknown(SendError):
    """The store failed while committing and could not be asked since. Repeat under the same id."""


class InstanceQuarantined(SendError):
    """The instance is set aside: by its supervision, or since its journal cannot be used."""


class NotJoinable(SendError):
    """A message, or a worker's result, cannot be part of this transaction. Nothing was written."""


class NotRepairable(SendError):
    """What somebody wants to repair is not broken so, or not any more. Nothing was done."""


class InstanceMoved(NotRepairable):
    """The instance has had a turn since whoever repairs it looked at it. Nothing was done."""


class Escalated(PerdureError):
    """A saga whose supervision escalates has failed: its runtime has stopped.

    The original exception is ``__cause__``. The message is kept, and tried again at the next start.
    """


class RuntimeNotRunning(SendError):
    """The runtime was not started, is stopping, or has stopped."""


class PublishFailed(SendError):
    """Some of the instances a published message went to did not take it.

    ``outcomes`` holds a receipt or an error per instance; repeating the publish under the same
    message id is safe.
    """

    def __init__(self, problem: str, outcomes: Sequence[Any], *, remedy: str) -> None:
        super().__init__(problem, remedy=remedy)
        self.outcomes = list(outcomes)


class SagaFailed(PerdureError):
    """The instance whose end was awaited has failed; ``problem`` is why, as it said itself."""


class SagaStuck(PerdureError):
    """The instance whose end was awaited cannot go on before somebody has seen to it."""


class InstancePurged(PerdureError):
    """The instance has ended and was purged, as its saga's retention says: this is not kept."""


class JobError(PerdureError):
    """A job of a work queue."""


class NonRetryable(JobError):
    """For workers to raise: trying again cannot help; the command has failed for good."""


class RetryLater(JobError):
    """For workers to raise: try again after ``after_s`` seconds; counts as an attempt."""

    def __init__(self, problem: str, *, after_s: float) -> None:
        # A hundred years; written so that NaN is refused.
        if not isinstance(after_s, (int, float)) or not 0 <= after_s <= 3_155_760_000:
            wanted = "give a number from 0 to 3155760000 (seconds)"
            raise DefinitionError(f"RetryLater.after_s is {after_s!r}", remedy=wanted)
        super().__init__(problem)
        self.after_s = after_s


class LeaseLost(JobError):
    """The job was taken from this worker, cancelled or too slow. Its result is refused."""


class InvalidResult(JobError):
    """A worker returned or emitted what is no message, or cannot be stored."""


class UnknownQueue(JobError):
    """The runtime has no work queue of this name."""


class UnknownJob(JobError):
    """No job of this id waits or runs."""


class InvalidQuery(PerdureError):
    """A question about instances that cannot be asked so; see ``Runtime.find``."""


class NotIndexed(InvalidQuery):
    """Some instances are older than the declaration of the field that is asked for."""


class CodecError(PerdureError):
    """A value and its bytes do not go together."""


class EncodeError(CodecError):
    """A value cannot be stored so that it comes back exactly."""


class UnregisteredType(EncodeError):
    """The class has no stable type name."""


class NaiveDatetime(EncodeError):
    """A datetime without time zone: its instant depends on the machine."""


class DecodeError(CodecError):
    """Bytes do not fit the type they claim to be."""


class UnknownType(DecodeError):
    """No class is registered for the type name."""


class UnknownVersion(DecodeError):
    """The version is newer than the code's, or an upcaster for it is missing."""


class LimitExceeded(CodecError):
    """Too many bytes, elements or levels of nesting."""
