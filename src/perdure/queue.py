"""Work queues as users declare them: where commands wait, and the functions that perform them.

    payments = WorkQueue("payments", concurrency=8, retry=Exponential(0.2, max_attempts=6))

    @payments.worker
    async def charge(command: ProcessPayment, job: Job, gateway: Gateway) -> PaymentReceived:
        reference = await gateway.charge(command.amount, idempotency_key=job.key)
        return PaymentReceived(command.order_id, reference)

A worker stays the plain function it is, and is tested as one. What it returns goes to the saga that
sent the command. This module knows no runtime, no store and no clock. Literature: PURISTA (queues,
workers, resources). Next to read: ``job.py``, and ``core/work.py``, which says what may start.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar, overload

from perdure.core.commit import OutboxKind
from perdure.core.queue_policy import QueuePolicy, Rate
from perdure.core.retry import Exponential, RetryPolicy
from perdure.errors import DefinitionError, DuplicateWorker
from perdure.job import Job
from perdure.worker_signature import Worker, worker_of

__all__ = ["Job", "WorkQueue", "Worker"]

F = TypeVar("F", bound=Callable[..., Any])

CONCURRENCY = 10
RESERVED = "perdure."
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,200}")


class WorkQueue:
    """A queue of commands, and of published events, with the workers that perform them.

        payments = WorkQueue("payments", rate=Rate(100, per_s=1.0), non_retryable=(CardDeclined,))

    ``concurrency`` workers (10) run at a time. An attempt that fails is repeated by the ``retry``
    policy (``Exponential()``), unless it failed with one of the ``non_retryable`` exceptions or
    with ``NonRetryable``. A job that is neither done nor renewed within ``lease_s`` seconds is
    taken from its worker; the attempt has failed then. ``rate`` bounds how many attempts start. A
    ``sequential`` queue performs one job at a time in the order they were sent; one that awaits
    its retry holds up the later ones. When ``pause_after`` jobs in a row have failed for good, the
    queue pauses (None: never). ``repeat_unknown=False``: an attempt of which nobody knows how it
    ended, since its process did or its lease ran out, is not repeated under the same key, but has
    failed for good with the reason "unknown"; each attempt is written before it begins.
    When a job fails for good, the saga is told whether any attempt may have had its effect,
    ``CommandFailed.is_unknown``. Of a job that was due when its process ended, nobody knows whether
    an attempt was under way; with ``write_first=True`` each attempt is written before it begins, at
    the cost of a write, and that is known, too.

    Raises ``DefinitionError`` for a bad name or nonsense numbers.
    """

    def __init__(
        self,
        name: str,
        *,
        concurrency: int | None = None,
        retry: RetryPolicy | None = None,
        lease_s: float = 60.0,
        rate: Rate | None = None,
        sequential: bool = False,
        pause_after: int | None = None,
        non_retryable: tuple[type[Exception], ...] = (),
        repeat_unknown: bool = True,
        write_first: bool = False,
    ) -> None:
        _check_name(name)
        if concurrency is None:
            concurrency = 1 if sequential is True else CONCURRENCY
        try:
            self.policy = QueuePolicy(
                name=name,
                concurrency=concurrency,
                retry=Exponential() if retry is None else retry,
                lease_s=lease_s,
                rate=rate,
                sequential=sequential,
                pause_after=pause_after,
                repeat_unknown=repeat_unknown,
                write_first=write_first,
            )
        except DefinitionError as error:
            raise DefinitionError(
                f"work queue {name!r}: {error.problem}", remedy=error.remedy
            ) from None
        _check_exceptions(name, non_retryable)
        self.name = name
        self.non_retryable = non_retryable
        self.workers: dict[type, Worker] = {}
        """The worker of each command or event class."""

    def __repr__(self) -> str:
        return f"<WorkQueue {self.name}>"

    def performs(self, command: type) -> bool:
        """It has a worker for commands of this class."""
        worker = self.workers.get(command)
        return worker is not None and worker.kind is OutboxKind.COMMAND

    @property
    def commands(self) -> dict[type, Worker]:
        """The workers of commands, by class."""
        return {k: w for k, w in self.workers.items() if w.kind is OutboxKind.COMMAND}

    @property
    def events(self) -> dict[type, Worker]:
        """The subscribers to events, by class."""
        return {k: w for k, w in self.workers.items() if w.kind is OutboxKind.EVENT}

    @overload
    def worker(self, function: F, /) -> F: ...

    @overload
    def worker(self, /, *, commands: Iterable[type] | None = None) -> Callable[[F], F]: ...

    def worker(self, function: Any = None, /, *, commands: Iterable[type] | None = None) -> Any:
        """Declare the worker of the commands that its first parameter is annotated with.

            @payments.worker
            def refund(command: RefundPayment | CancelPayment, ledger: Ledger) -> None: ...

            @payments.worker(commands=[ProcessPayment])      # where there is no annotation
            def charge(command): ...

        A parameter named ``job``, or annotated ``Job``, is given the job. Every other one is a
        resource of the runtime, by its name; one with a default may be missing there.

        Raises ``DefinitionError``, and ``DuplicateWorker`` if the queue has one for a command.
        """
        return self._declaring(OutboxKind.COMMAND, function, commands, sys._getframe(1).f_locals)

    @overload
    def subscriber(self, function: F, /) -> F: ...

    @overload
    def subscriber(self, /, *, events: Iterable[type] | None = None) -> Callable[[F], F]: ...

    def subscriber(self, function: Any = None, /, *, events: Iterable[type] | None = None) -> Any:
        """Declare a function to be performed once per published event; otherwise as ``worker``.

        @audit.subscriber
        def record(event: OrderCompleted, ledger: Ledger) -> None: ...
        """
        return self._declaring(OutboxKind.EVENT, function, events, sys._getframe(1).f_locals)

    def _declaring(
        self,
        kind: OutboxKind,
        function: Any,
        classes: Iterable[type] | None,
        local_names: Mapping[str, Any],
    ) -> Any:
        def declare(function: F) -> F:
            worker = worker_of(function, kind, self.name, classes, local_names)
            for one in worker.types:
                other = self.workers.get(one)
                if other is not None:
                    raise DuplicateWorker(
                        f"{one.__name__} has two workers in queue {self.name!r}: "
                        f"{other.name} and {worker.name}",
                        remedy="keep one, or put the other into a queue of its own",
                    )
            self.workers.update(dict.fromkeys(worker.types, worker))
            return function

        return declare if function is None else declare(function)


def _check_name(name: object) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise DefinitionError(
            f"{name!r} is no name for a work queue",
            remedy="use up to 200 letters, digits, dots, dashes and underscores",
        )
    if name.startswith(RESERVED):
        raise DefinitionError(
            f"work queue {name!r}: names that begin with {RESERVED!r} are perdure's own",
            remedy="choose another name",
        )


def _check_exceptions(name: str, kinds: object) -> None:
    if isinstance(kinds, tuple) and all(
        isinstance(kind, type) and issubclass(kind, Exception) for kind in kinds
    ):
        return
    raise DefinitionError(
        f"work queue {name!r}: non_retryable is {kinds!r}",
        remedy="give a tuple of exception classes, as non_retryable=(CardDeclined,)",
    )
