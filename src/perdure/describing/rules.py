"""The rules of ``check``, by their names. Each is a function of everything that is declared.

A rule that warned where nothing is wrong would be switched off, and the others with it: where a
callback is written by hand, or a queue is performed elsewhere, what they do is not known, and they
are passed over. Next to read: ``check.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from perdure.core.wording import listed
from perdure.describing.description import Description, Guard, Kind, Queue, Saga, Step
from perdure.describing.wording import time

__all__ = ["RULES", "Found"]


@dataclass(frozen=True, slots=True)
class Found:
    """What breaks a rule: whose it is, where in it, what is wrong, and what to do."""

    name: str
    place: str
    problem: str
    remedy: str


def _managers(description: Description) -> Iterator[Saga]:
    return (one for one in description.sagas if one.kind is Kind.PROCESS_MANAGER)


def _no_timeout(description: Description) -> Iterator[Found]:
    """A process manager that no time ever reaches waits for ever when a message does not come."""
    for saga in _managers(description):
        is_timed = saga.timeout_s is not None or saga.deadlines or "handle" in saga.by_hand
        if not is_timed and not _only_starts(saga):
            yield Found(
                saga.name,
                "",
                "it has no timeout and handles no deadline, so it may wait for ever",
                "give it timeout = timedelta(…), or set a deadline where it waits",
            )


def _only_starts(saga: Saga) -> bool:
    """Whatever it takes may be the first message, and the last."""
    return all(one.role == "starts" for one in saga.messages)


def _failure_unhandled(description: Description) -> Iterator[Found]:
    """The result of a command is awaited, its failure is not."""
    for saga in _managers(description):
        handled = {one.name for one in saga.failures} | set(saga.compensates)
        if saga.takes_failures or "" in handled:
            continue
        taken = {one.type for one in saga.messages}
        for queue in description.queues:
            for command, result in _failing(queue, taken):
                if command not in handled:
                    yield Found(
                        saga.name,
                        f"@compensates({command})",
                        f"it takes {result}, which a worker of queue {queue.name!r} returns for "
                        f"{command}; if that fails for good, nothing here hears of it",
                        f"say what makes up for it: @compensates({command}), or "
                        f"@on_command_failed({command})",
                    )


def _failing(queue: Queue, taken: Collection[str]) -> Iterator[tuple[str, str]]:
    """Commands that may fail for good, each with what is returned for it, if that is taken."""
    if not queue.may_fail:
        return
    for worker in queue.workers:
        result = next((one for one in worker.returns or () if one in taken), None)
        if result is not None and not worker.is_subscriber:
            yield from ((command, result) for command in worker.takes)


def _never_starts(description: Description) -> Iterator[Found]:
    """Messages are taken, and none of them can be the first one."""
    for saga in _managers(description):
        by_hand = {"correlate", "interested_in"} & set(saga.by_hand)
        starts = saga.starts_missing or any(one.role == "starts" for one in saga.messages)
        if not by_hand and not starts and saga.messages:
            yield Found(
                saga.name,
                "",
                "no message starts it; those it takes are for instances that cannot be there",
                "declare the first one with @starts, or on_missing = StartMissing()",
            )


def _unknown_status(description: Description) -> Iterator[Found]:
    """A guard names a status that the state can never have."""
    for saga in _managers(description):
        if saga.statuses is None:
            continue
        for where, guard in _guards(saga):
            unknown = [one for one in guard.statuses if one not in saga.statuses]
            if not unknown:
                continue
            if saga.statuses:
                problem = f"when={unknown[0]!r} is no status of {saga.state}"
                remedy = f"it has {listed(saga.statuses)}"
            else:
                problem = f"when={unknown[0]!r}, but {saga.state} has no status"
                remedy = "give the state a field `status`, or the guard a function of the state"
            yield Found(saga.name, where, problem, remedy)


def _guards(saga: Saga) -> Iterator[tuple[str, Guard]]:
    for taken in saga.messages:
        yield from ((f"@{taken.role}({taken.type})", guard) for guard in taken.guards)
    for role, several in (
        ("on_deadline", saga.deadlines),
        ("on_command_failed", saga.failures),
        ("on_child_ended", saga.children),
    ):
        yield from ((f"@{role}({one.name})", guard) for one in several for guard in one.guards)


def _no_worker(description: Description) -> Iterator[Found]:
    """A command's failure is handled, and nobody performs it."""
    queues = description.queues
    if not queues or not all(queue.workers for queue in queues):
        return  # it may be performed elsewhere
    performed = {command for queue in queues for command in _commands(queue)}
    taken = {one.type for saga in description.sagas for one in saga.messages}
    for saga in _managers(description):
        for told in saga.failures:
            if told.name and told.name not in performed | taken:
                yield Found(
                    saga.name,
                    f"@on_command_failed({told.name})",
                    f"no worker performs {told.name}, so sending it is refused",
                    "give the runtime the queue with its worker, or leave the handler out",
                )


def _two_workers(description: Description) -> Iterator[Found]:
    """A command that two queues perform has to be sent to one of them by name."""
    by_command: dict[str, list[str]] = {}
    for queue in description.queues:
        for command in _commands(queue):
            by_command.setdefault(command, []).append(queue.name)
    for command, queues in by_command.items():
        if len(queues) > 1:
            yield Found(
                queues[1],
                f"worker of {command}",
                f"the queues {listed(queues)} have workers for it; sent without a queue's name it "
                "is refused",
                f"keep one, or always send it with queue={queues[0]!r}",
            )


def _commands(queue: Queue) -> list[str]:
    return [one for worker in queue.workers if not worker.is_subscriber for one in worker.takes]


def _endless_step(description: Description) -> Iterator[Found]:
    """A step that never fails holds up all behind it."""
    for saga in description.sagas:
        endless = [
            step.name
            for step in saga.steps
            if step.retry.attempts is None and step.deadline_s is None and not _is_timed(saga, step)
        ]
        if endless:
            yield Found(
                saga.name,
                f"step{'s' if len(endless) > 1 else ''} {listed(endless)}",
                "tried for ever, and nothing bounds that",
                "give deadline=timedelta(…), or a retry with max_attempts=, or the saga a timeout",
            )


def _late_deadline(description: Description) -> Iterator[Found]:
    """A step's own limit that is behind the saga's."""
    for saga in description.sagas:
        for step in saga.steps:
            limit_s, timeout_s = step.deadline_s or 0.0, saga.timeout_s
            if timeout_s is not None and limit_s > timeout_s and _is_timed(saga, step):
                yield Found(
                    saga.name,
                    f"step {step.name}",
                    f"its deadline is {time(limit_s)}, the timeout of the whole saga "
                    f"{time(timeout_s)}",
                    "make the step's deadline shorter, or the saga's timeout longer",
                )


def _is_timed(saga: Saga, step: Step) -> bool:
    """The saga's timeout counts while this step is at work: not behind the pivot."""
    behind = saga.kind is Kind.ORDERED_SAGA and step.past_return and not step.is_pivot
    return saga.timeout_s is not None and not behind


RULES: dict[str, Callable[[Description], Iterator[Found]]] = {
    "no-timeout": _no_timeout,
    "failure-unhandled": _failure_unhandled,
    "never-starts": _never_starts,
    "unknown-status": _unknown_status,
    "no-worker": _no_worker,
    "two-workers": _two_workers,
    "endless-step": _endless_step,
    "late-deadline": _late_deadline,
}
