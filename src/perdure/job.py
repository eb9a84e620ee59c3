"""What a worker sees of its job beside the command, and what it hands out through it.

A plain object: a test makes its own, ``Job(key="k-1")``, and looks at ``emitted`` and ``sent``
afterwards. This module knows no runtime and no clock; the lease is whoever made the job's.
Next to read: ``queue.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, is_dataclass
from datetime import datetime
from typing import Any

from perdure.core.commit import OutboxKind
from perdure.core.retry import DELAY_MAX_S, check_number
from perdure.errors import InvalidResult, LeaseLost
from perdure.messages import ExternalEvent, datetime_of, type_info_of

__all__ = ["Job", "Output"]


@dataclass(frozen=True, slots=True)
class Output:
    """An event emitted or a command sent by a worker; ``anyway``: also if its job fails for good.

    ``queue`` is None for an event, and for a command that goes to the queue that takes it.
    """

    kind: OutboxKind
    content: Any
    queue: str | None = None
    anyway: bool = False


def _no_lease(seconds: float) -> None:
    """In a test nobody takes the job away."""


class Job:
    """One attempt at a command: its ids, its lease, and a way to hand out further messages.

        def reserve(command: ReserveInventory, job: Job, stock: Stock) -> None:
            stock.reserve(command.sku, key=job.key)        # the same key at every attempt
            job.emit(StockLow(command.sku))                # published when the job is done

        job = Job(key="k-1")                               # in a test
        reserve(ReserveInventory("apple"), job, stock)
        assert job.emitted == [StockLow("apple")]

    ``key`` is the idempotency key, the same at every attempt. ``attempt`` counts from 1 up to
    ``max_attempts`` (None: no end). ``saga`` and ``instance_id`` name the instance that sent the
    command, and are empty if none did. ``correlation_id``, ``causation_id`` and ``headers`` are
    those of the message that led to it, as in ``Metadata``; ``enqueued_at`` is when it was sent.

    What is emitted or sent is carried out when the attempt has succeeded, in one transaction with
    its result; with ``anyway=True`` also when the job fails for good. Of an attempt that is tried
    again, nothing is. All methods may be called from any thread.
    """

    def __init__(
        self,
        *,
        key: str = "",
        attempt: int = 1,
        max_attempts: int | None = None,
        queue: str = "",
        saga: str = "",
        instance_id: str = "",
        correlation_id: str | None = None,
        causation_id: str | None = None,
        headers: Mapping[str, str] | None = None,
        enqueued_at: datetime | None = None,
        lease_s: float = 60.0,
        extend: Callable[[float], None] = _no_lease,
    ) -> None:
        self.key = key
        self.attempt = attempt
        self.max_attempts = max_attempts
        self.queue = queue
        self.saga = saga
        self.instance_id = instance_id
        self.correlation_id = correlation_id
        self.causation_id = causation_id
        self.headers = headers
        self.enqueued_at = datetime_of(0) if enqueued_at is None else enqueued_at
        self.lease_s = lease_s
        self.outputs: list[Output] = []
        """Everything emitted and sent, in order."""
        self._extend = extend
        self._taken_away = ""

    def extend(self, seconds: float) -> None:
        """Let the lease run for so many seconds from now, at least to its present end.

        Raises ``LeaseLost``.
        """
        check_number("seconds of job.extend", seconds, 0.001, DELAY_MAX_S)
        self._require_lease()
        self._extend(seconds)

    def heartbeat(self) -> None:
        """Still at work: the lease runs anew, for its whole length. Raises ``LeaseLost``."""
        self._require_lease()
        self._extend(self.lease_s)

    def emit(self, event: Any, *, anyway: bool = False) -> None:
        """Publish an event when the job is done; with ``anyway`` also when it fails for good.

        Raises ``LeaseLost`` if the job is not this worker's any more, ``InvalidResult`` for what
        is no message.
        """
        self._put(Output(OutboxKind.EVENT, event, None, anyway))

    def send(self, command: Any, *, queue: str | None = None, anyway: bool = False) -> None:
        """Send a further command when the job is done; otherwise as ``emit``."""
        self._put(Output(OutboxKind.COMMAND, command, queue, anyway))

    @property
    def emitted(self) -> list[Any]:
        """The events emitted so far, in order."""
        return [one.content for one in self.outputs if one.kind is OutboxKind.EVENT]

    @property
    def sent(self) -> list[Any]:
        """The commands sent so far, in order."""
        return [one.content for one in self.outputs if one.kind is OutboxKind.COMMAND]

    @property
    def is_cancelled(self) -> bool:
        """The job was taken from this worker: stop; whatever it returns is refused."""
        return bool(self._taken_away)

    def take_away(self, why: str) -> None:
        """For the runtime (and tests): the job was cancelled, or its lease has run out.

        What was said first stays: a job that is lost ends as well.
        """
        self._taken_away = self._taken_away or why

    def _put(self, output: Output) -> None:
        self._require_lease()
        if not _may_be_message(output.content):
            verb = "emitted" if output.kind is OutboxKind.EVENT else "sent"
            raise InvalidResult(
                f"a worker of queue {self.queue!r} {verb} {output.content!r}, which is no message",
                remedy="make it an object of a class marked with @message",
            )
        self.outputs.append(output)

    def _require_lease(self) -> None:
        if self._taken_away:
            raise LeaseLost(
                f"job {self.key!r} of queue {self.queue!r} is not this worker's any more: "
                f"{self._taken_away}",
                remedy="stop; look at job.is_cancelled, and call job.heartbeat() in long work",
            )


def _may_be_message(content: Any) -> bool:
    """Whether it looks like one. Whether it can be stored is found when it is encoded."""
    kind = type(content)
    return type_info_of(kind) is not None or is_dataclass(kind) or kind is ExternalEvent
