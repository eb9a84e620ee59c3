"""What is declared as people read it: a sheet for each saga and queue, and a table below it.

    sheet_of(found.sagas[0])        # {"timeout": "15 d, handled", …}
    table_of(found.sagas[0])        # ({"message": "OrderPlaced", "does": "starts", …}, …)

Values that are empty are left out by whoever prints them. Next to read: ``ops/cli/describing.py``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from perdure.describing.description import Kind, Queue, Saga, Step, Told
from perdure.describing.wording import guards_text, time

__all__ = ["queue_sheet", "queue_table", "sheet_of", "steps_of", "table_of", "title_of"]

Row = dict[str, str]

_HAND = "only its code says (it is written by hand)"


def title_of(saga: Saga) -> str:
    """Its name and kind."""
    return f"{saga.name}, {'an' if saga.kind[0] in 'aeiou' else 'a'} {saga.kind}"


def sheet_of(saga: Saga) -> Row:
    """What is declared of the whole of it."""
    is_manager = saga.kind is Kind.PROCESS_MANAGER
    return {
        "about": saga.about,
        "state": saga.state if is_manager else "",
        "runs": saga.timing,
        "calls": saga.calls,
        "missed runs": saga.missed,
        "course": "only its code says; below is what it may ask for"
        if saga.kind is Kind.COROUTINE
        else "",
        "begins with": _begins(saga),
        "indexed": ", ".join(saga.indexed),
        "written by hand": ", ".join(saga.by_hand),
        "deadlines": _told(saga.deadlines) or (_HAND if "handle" in saga.by_hand else ""),
        "timeout": _timeout(saga),
        "failed commands": _failures(saga),
        "children": _told(saga.children, "any child"),
        "cancelled": _cancelled(saga),
        "no instance": f"a message for one {saga.on_missing}" if saga.on_missing else "",
        "a turn that fails": _retry(saga) if is_manager else "",
        "kept": saga.retention,
    }


def _begins(saga: Saga) -> str:
    """Of what has steps; of others the table says it."""
    if not saga.steps:
        return ""
    first = saga.messages[0]
    return f"{first.type}, by {first.by}"


def _told(several: Iterable[Told], of_any: str = "") -> str:
    return ", ".join(
        f"{one.name or of_any} ({guards_text(one.guards)})" if one.guards else one.name or of_any
        for one in several
    )


def _timeout(saga: Saga) -> str:
    if saga.kind is Kind.SCHEDULE:
        return ""
    if saga.timeout_s is None:
        return "none"
    said = [time(saga.timeout_s)]
    if saga.timeout_retry is not None:
        said.append(f"reached again: {saga.timeout_retry.text}")
    if saga.kind is Kind.PROCESS_MANAGER:
        said.append("handled" if saga.handles_timeout else "then it fails")
    elif saga.kind is Kind.ORDERED_SAGA:
        said.append("then it is undone")
    else:
        said.append("then it fails")
    return ", ".join(said)


def _failures(saga: Saga) -> str:
    if saga.kind is not Kind.PROCESS_MANAGER:
        return ""
    said = []
    if saga.compensates:
        said.append(f"compensated: {', '.join(saga.compensates)}")
    if saga.failures:
        said.append(f"handled: {_told(saga.failures, 'any')}")
    if saga.takes_failures:
        said.append("seen by its own code")
    return "; ".join(said) or "not handled"


def _cancelled(saga: Saga) -> str:
    if saga.kind is not Kind.PROCESS_MANAGER:
        return ""
    return "handled" if saga.handles_cancel else "it fails"


def _retry(saga: Saga) -> str:
    """What becomes of a turn that fails, and of its instance."""
    if saga.retry is None:
        return f"is not tried again: {saga.supervision}"
    others = " (others go on meanwhile)" if saga.lets_pass else ""
    return f"{saga.retry.text}{others}; then {saga.supervision}"


def table_of(saga: Saga) -> Sequence[Row]:
    """What messages do to it, or its steps."""
    if saga.kind in (Kind.ORDERED_SAGA, Kind.WORKFLOW):
        return [_step(one, saga) for one in saga.steps]
    return [
        {
            "message": one.type,
            "does": (one.role or _HAND) + (", strictly" if one.strict else ""),
            "by": one.by,
            "when": guards_text(one.guards),
        }
        for one in saga.messages
    ]


def steps_of(saga: Saga) -> Sequence[Row]:
    """The steps that a coroutine may perform."""
    return [_step(one, saga) for one in saga.steps] if saga.kind is Kind.COROUTINE else []


def _step(step: Step, saga: Saga) -> Row:
    limit = "" if step.deadline_s is None else f", within {time(step.deadline_s)}"
    row = {"step": step.name}
    if saga.kind is not Kind.COROUTINE:
        row["after"] = ", ".join(step.after) or "the beginning"
    row["attempts"] = f"{step.retry.text}{limit}"
    if saga.kind is Kind.ORDERED_SAGA:
        row["undone by"] = _undo(step)
    return {**row, "what": step.about}


def _undo(step: Step) -> str:
    if step.is_pivot:
        return "nothing: the pivot"
    if step.undo is None:
        return "nothing: past the pivot" if step.past_return else "nothing to undo"
    unknown = ", also if its end is unknown" if step.undoes_unknown else ""
    return f"{step.undo.name}{unknown} ({step.undo.retry.text})"


def queue_sheet(queue: Queue) -> Row:
    """What is declared of a work queue."""
    return {
        "at a time": "one, in order" if queue.sequential else str(queue.concurrency),
        "attempts": queue.retry.text,
        "not repeated": ", ".join(queue.non_retryable),
        "lease": time(queue.lease_s),
        "rate": queue.rate,
        "pauses after": f"{queue.pause_after} failed for good" if queue.pause_after else "",
        "workers": "" if queue.workers else "elsewhere",
    }


def queue_table(queue: Queue) -> Sequence[Row]:
    """Its workers and subscribers."""
    return [
        {
            "worker": one.name,
            "performs": ", ".join(one.takes) + (" (an event)" if one.is_subscriber else ""),
            "returns": "not stated" if one.returns is None else ", ".join(one.returns) or "nothing",
            "what": one.about,
        }
        for one in queue.workers
    ]
