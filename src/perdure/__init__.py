"""perdure: long-running business processes, every saga instance a durable actor.

Read ``process_manager.py`` for what a user writes, ``runtime/runtime.py`` for what a service
embeds, ``core/turn.py`` for what happens to a message.
"""

import typing as _typing

from perdure import errors
from perdure.approvals import ApprovalDecided, Approvals, AskApproval, Decide
from perdure.core.approval import Approval, Rung, Who
from perdure.core.commit import Status
from perdure.core.correlation import Continue, Ignore, Start, Stop
from perdure.core.criteria import Between
from perdure.core.digest import digest_of
from perdure.core.family import Cancel, ChildEnded
from perdure.core.indexed import Indexed
from perdure.core.intervention import Intervention
from perdure.core.missed import CatchUp, Coalesce, Skip
from perdure.core.outcome import Outcome
from perdure.core.queue_policy import Rate
from perdure.core.retention import Retention
from perdure.core.retry import Exponential, Fixed, Linear, RetryPolicy
from perdure.core.saga import IgnoreMissing, Park, ReplyMissing, StartMissing
from perdure.core.schedule import Cron, Every
from perdure.core.step_events import Residue
from perdure.core.supervision import Supervision
from perdure.core.wait_facts import WaitingFor, WaitKind
from perdure.correlating import CORRELATION_ID
from perdure.declarations import (
    applies,
    compensates,
    continues,
    on_cancelled,
    on_child_ended,
    on_command_failed,
    on_deadline,
    on_timeout,
    starts,
    stops,
)
from perdure.effects import (
    CancelChild,
    CancelDeadline,
    Complete,
    Effects,
    Fail,
    Publish,
    Record,
    Reply,
    Send,
    SetDeadline,
    StartChild,
    Stuck,
)
from perdure.errors import (
    ChildFailed,
    NonRetryable,
    PerdureError,
    RetryLater,
    StepFailed,
    WorkflowCancelled,
)
from perdure.gathering import Gathering
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
from perdure.observer import Observer
from perdure.ops.attending import attend as _attend
from perdure.ops.attending import attend_mail as _attend_mail
from perdure.ordered_saga import OrderedSaga
from perdure.process_manager import ProcessManager
from perdure.queue import WorkQueue
from perdure.runs import PauseSchedule, ResumeSchedule, Run, TriggerSchedule
from perdure.runtime.accepted import Accepted
from perdure.runtime.companions import COMPANIONS as _COMPANIONS
from perdure.runtime.delivery import Receipt
from perdure.runtime.instances.quarantine import QuarantinedInstance
from perdure.runtime.jobs.queues import JobView, QueueRef
from perdure.runtime.letterbox import Letterbox
from perdure.runtime.letters.letters import DeadLetter
from perdure.runtime.letters.redrive import DeadLetters
from perdure.runtime.looking.agenda import ArmedDeadline, ScheduleView
from perdure.runtime.looking.history import HistoryEntry
from perdure.runtime.looking.searching import SagaCounts
from perdure.runtime.looking.views import InstanceView
from perdure.runtime.ref import SagaRef
from perdure.runtime.repair.repair import Repair
from perdure.runtime.repair.repaired import Audited, Repaired, Tried
from perdure.runtime.runtime import Runtime
from perdure.schedule import Schedule
from perdure.settings import Settings
from perdure.steps import step
from perdure.store.memory import MemoryStore
from perdure.store.own_transaction import OwnTransaction
from perdure.workflow_context import Context
from perdure.workflow_coroutine import CoroutineWorkflow, workflow
from perdure.workflow_list import Workflow

if _typing.TYPE_CHECKING:
    from perdure.store.sql import SqlStore

__all__ = [
    "CORRELATION_ID",
    "Accepted",
    "AnyMessage",
    "Approval",
    "ApprovalDecided",
    "Approvals",
    "ArmedDeadline",
    "AskApproval",
    "Audited",
    "Between",
    "Cancel",
    "CancelChild",
    "CancelDeadline",
    "CatchUp",
    "ChildEnded",
    "ChildFailed",
    "Coalesce",
    "CommandFailed",
    "Complete",
    "Context",
    "Continue",
    "CoroutineWorkflow",
    "Cron",
    "DeadLetter",
    "DeadLetters",
    "DeadlineReached",
    "Decide",
    "Effects",
    "Every",
    "Exponential",
    "ExternalEvent",
    "Fail",
    "Fixed",
    "Gathering",
    "HistoryEntry",
    "Ignore",
    "IgnoreMissing",
    "Indexed",
    "InstanceView",
    "Intervention",
    "Job",
    "JobView",
    "Letterbox",
    "Linear",
    "MemoryStore",
    "Metadata",
    "NonRetryable",
    "Observer",
    "OrderedSaga",
    "Outcome",
    "OwnTransaction",
    "Park",
    "PauseSchedule",
    "PerdureError",
    "ProcessManager",
    "Publish",
    "QuarantinedInstance",
    "QueueRef",
    "Rate",
    "Receipt",
    "Record",
    "Repair",
    "Repaired",
    "Reply",
    "ReplyMissing",
    "Residue",
    "ResumeSchedule",
    "Retention",
    "RetryLater",
    "RetryPolicy",
    "RetryScheduled",
    "Run",
    "Rung",
    "Runtime",
    "SagaCounts",
    "SagaRef",
    "Schedule",
    "ScheduleView",
    "Send",
    "SetDeadline",
    "Settings",
    "Skip",
    "SqlStore",
    "Start",
    "StartChild",
    "StartMissing",
    "Status",
    "StepFailed",
    "Stop",
    "Stuck",
    "Supervision",
    "TimeoutReached",
    "Tried",
    "TriggerSchedule",
    "WaitKind",
    "WaitingFor",
    "Who",
    "WorkQueue",
    "Workflow",
    "WorkflowCancelled",
    "applies",
    "compensates",
    "continues",
    "digest_of",
    "errors",
    "message",
    "on_cancelled",
    "on_child_ended",
    "on_command_failed",
    "on_deadline",
    "on_timeout",
    "starts",
    "step",
    "stops",
    "workflow",
]

_COMPANIONS += [_attend, _attend_mail]


if not _typing.TYPE_CHECKING:  # a checker would take any name for one of these

    def __getattr__(name):
        """SQLAlchemy takes longer than all the rest: it is imported when it is asked for."""
        if name != "SqlStore":
            raise AttributeError(f"module 'perdure' has no attribute {name!r}")
        from perdure.store.sql import SqlStore

        globals()[name] = SqlStore
        return SqlStore

    def __dir__():
        return sorted({*globals(), *__all__})
