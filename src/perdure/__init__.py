"""perdure: long-running business processes, every saga instance a durable actor.

Read ``process_manager.py`` for what a user writes, ``runtime/runtime.py`` for what a service
embeds, ``core/turn.py`` for what happens to a message.
"""

from perdure import errors
from perdure.core.commit import Status
from perdure.core.correlation import Continue, Ignore, Start, Stop
from perdure.core.outcome import Outcome
from perdure.core.saga import IgnoreMissing, Park, ReplyMissing, StartMissing
from perdure.correlating import CORRELATION_ID
from perdure.declarations import (
    applies,
    compensates,
    continues,
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
)
from perdure.errors import PerdureError
from perdure.messages import DeadlineReached, ExternalEvent, Metadata, TimeoutReached, message
from perdure.process_manager import ProcessManager
from perdure.runtime.delivery import Receipt
from perdure.runtime.ref import SagaRef
from perdure.runtime.runtime import Runtime
from perdure.runtime.views import HistoryEntry, InstanceView
from perdure.settings import Settings
from perdure.store.memory import MemoryStore
from perdure.store.sql import SqlStore

__all__ = [
    "CORRELATION_ID",
    "CancelDeadline",
    "Complete",
    "Continue",
    "DeadlineReached",
    "Effects",
    "ExternalEvent",
    "Fail",
    "HistoryEntry",
    "Ignore",
    "IgnoreMissing",
    "InstanceView",
    "MemoryStore",
    "Metadata",
    "Outcome",
    "Park",
    "PerdureError",
    "ProcessManager",
    "Publish",
    "Receipt",
    "Record",
    "Reply",
    "ReplyMissing",
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
    "TimeoutReached",
    "applies",
    "compensates",
    "continues",
    "errors",
    "message",
    "on_deadline",
    "on_timeout",
    "starts",
    "stops",
]
