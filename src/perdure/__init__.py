"""perdure: long-running business processes, every saga instance a durable actor.

Read ``process_manager.py`` for what a user writes, ``runtime/runtime.py`` for what a service
embeds, ``core/turn.py`` for what happens to a message.
"""

from perdure import errors
from perdure.core.commit import Status
from perdure.core.correlation import Continue, Ignore, Start, Stop
from perdure.core.outcome import Outcome
from perdure.core.queue_policy import Rate
from perdure.core.retry import Exponential, Fixed, Linear, RetryPolicy
from perdure.core.saga import IgnoreMissing, Park, ReplyMissing, StartMissing
from perdure.correlating import CORRELATION_ID
from perdure.declarations import (
    applies,
    compensates,
    continues,
    on_command_failed,
    on_deadline,
    on_timeout,
    starts,
    stops,
)
from perdure.effects import (
    CancelDeadline,
    Complete,
    Effects,
    Fail,
    Publish,
    Record,
    Reply,
    Send,
    SetDeadline,
    Stuck,
)
from perdure.errors import NonRetryable, PerdureError, RetryLater
from perdure.job import Job
from perdure.messages import (
    AnyMessage,
    CommandFailed,
    DeadlineReached,
    ExternalEvent,
    Metadata,
    RetryScheduled,
    TimeoutReached,
    message,
)
from perdure.process_manager import ProcessManager
from perdure.queue import WorkQueue
from perdure.runtime.delivery import Receipt
from perdure.runtime.letters import DeadLetter
from perdure.runtime.queues import JobView, QueueRef
from perdure.runtime.redrive import DeadLetters
from perdure.runtime.ref import SagaRef
from perdure.runtime.runtime import Runtime
from perdure.runtime.views import HistoryEntry, InstanceView
from perdure.settings import Settings
from perdure.store.memory import MemoryStore
from perdure.store.sql import SqlStore

__all__ = [
    "CORRELATION_ID",
    "AnyMessage",
    "CancelDeadline",
    "CommandFailed",
    "Complete",
    "Continue",
    "DeadLetter",
    "DeadLetters",
    "DeadlineReached",
    "Effects",
    "Exponential",
    "ExternalEvent",
    "Fail",
    "Fixed",
    "HistoryEntry",
    "Ignore",
    "IgnoreMissing",
    "InstanceView",
    "Job",
    "JobView",
    "Linear",
    "MemoryStore",
    "Metadata",
    "NonRetryable",
    "Outcome",
    "Park",
    "PerdureError",
    "ProcessManager",
    "Publish",
    "QueueRef",
    "Rate",
    "Receipt",
    "Record",
    "Reply",
    "ReplyMissing",
    "RetryLater",
    "RetryPolicy",
    "RetryScheduled",
    "Runtime",
    "SagaRef",
    "Send",
    "SetDeadline",
    "Settings",
    "SqlStore",
    "Start",
    "StartMissing",
    "Status",
    "Stop",
    "Stuck",
    "TimeoutReached",
    "WorkQueue",
    "applies",
    "compensates",
    "continues",
    "errors",
    "message",
    "on_command_failed",
    "on_deadline",
    "on_timeout",
    "starts",
    "stops",
]
