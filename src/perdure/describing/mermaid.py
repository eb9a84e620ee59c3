"""Diagrams in Mermaid, as Markdown viewers draw them.

    diagram(found.sagas[0], found.queues)       # "flowchart LR\\n    saga[…"
    markdown(found)                             # one below the other, with headings

Drawn is what is declared. A worker stands beside a saga where their types meet: it returns a
message that the saga takes, or performs a command whose failure the saga handles. Node ids are
made here, never taken from names; whatever Mermaid would read in a name is written as an entity.
Next to read: ``description.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from perdure.describing.description import Description, Kind, Queue, Saga, Step, Taken, WorkerOf
from perdure.describing.wording import guards_text, time

__all__ = ["diagram", "escaped", "markdown"]

NO_BREAK_SPACE = "\u00a0"
"""An empty label is none."""

_PLAIN = set("!()*+,-./:=?@[]_|~^'{}…")


def escaped(text: str) -> str:
    """What may stand between quotes in a diagram.

    >>> escaped('say "no" #1'), escaped("1. a"), escaped(" ")
    ('say #34;no#34; #35;1', '1#46; a', '#160;')
    """
    shown = " ".join(text.split()) or NO_BREAK_SPACE
    first = len(shown) - len(shown.lstrip("0123456789"))  # "- a" and "1. a" would be lists
    return "".join(
        one if one.isalnum() or one == " " or (one in _PLAIN and at != first) else f"#{ord(one)};"
        for at, one in enumerate(shown)
    )


def markdown(description: Description) -> str:
    """A diagram of each saga, in Markdown, each below its name."""
    return "\n".join(
        f"### {saga.name}\n\n```mermaid\n{diagram(saga, description.queues)}```\n"
        for saga in description.sagas
    )


def diagram(saga: Saga, queues: Iterable[Queue] = ()) -> str:
    """The flowchart of a saga, beside the workers of these queues that it has to do with."""
    chart = _Chart("LR" if saga.kind in _ACROSS else "TD")
    _DRAWN[saga.kind](chart, saga, queues)
    return chart.text()


class _Chart:
    """Nodes and arrows, in the order in which they are put in."""

    def __init__(self, direction: str) -> None:
        self._lines = [f"flowchart {direction}"]
        self._nodes: dict[tuple[str, str], str] = {}

    def node(self, group: str, name: str, shape: str = "[]", label: str | None = None) -> str:
        """The id of a node, which is put in at its first use."""
        if (group, name) not in self._nodes:
            made = self._nodes[group, name] = f"n{len(self._nodes)}"
            opening, closing = shape[: len(shape) // 2], shape[len(shape) // 2 :]
            self._lines.append(f'{made}{opening}"{escaped(label or name)}"{closing}')
        return self._nodes[group, name]

    def arrow(self, start: str, end: str, label: str = "", *, dotted: bool = False) -> None:
        """From one node to another."""
        line = "-.->" if dotted else "-->"
        said = f'|"{escaped(label)}"|' if label else ""
        self._lines.append(f"{start} {line}{said} {end}")

    def text(self) -> str:
        return "\n    ".join(self._lines) + "\n"


_MESSAGE, _TIME, _END, _TOLD = "([])", "{{}}", "(())", "[[]]"
_ACROSS = {Kind.PROCESS_MANAGER, Kind.SCHEDULE, Kind.OTHER}


def _label(taken: Taken) -> str:
    """What a message does to the saga, how it is found, and when."""
    by = f"by {taken.by}" if taken.by else ""
    return ", ".join(filter(None, [taken.role, by, guards_text(taken.guards)]))


def _takes_messages(chart: _Chart, saga: Saga, node: str) -> None:
    for taken in saga.messages:
        message = chart.node("message", taken.type, _MESSAGE)
        chart.arrow(message, node, _label(taken))
        if taken.role == "stops":
            chart.arrow(node, chart.node("end", "completed", _END), f"after {taken.type}")


def _manager(chart: _Chart, saga: Saga, queues: Iterable[Queue]) -> None:
    node = chart.node("saga", saga.name)
    _takes_messages(chart, saga, node)
    for deadline in saga.deadlines:
        reached = chart.node("deadline", deadline.name, _TIME, f"deadline {deadline.name}")
        chart.arrow(reached, node, guards_text(deadline.guards))
    if saga.timeout_s is not None:
        late = chart.node("timeout", "", _TIME, f"timeout: {time(saga.timeout_s)}")
        failed = node if saga.handles_timeout else chart.node("end", "failed", _END)
        chart.arrow(late, failed)
    for child in saga.children:
        ended = chart.node("child", child.name, _TOLD, f"{_child(child.name)} ended")
        chart.arrow(ended, node, guards_text(child.guards))
    if saga.handles_cancel:
        chart.arrow(chart.node("cancel", "", _TOLD, "cancelled"), node)
    for told in saga.failures:
        chart.arrow(_failure(chart, told.name), node, guards_text(told.guards))
    for command in saga.compensates:
        chart.arrow(_failure(chart, command), node, "compensated")
    for queue in queues:
        for worker in queue.workers:
            _worker(chart, saga, queue, worker)


def _child(name: str) -> str:
    return f"child {name}" if name else "any child"


def _failure(chart: _Chart, command: str) -> str:
    return chart.node("failure", command, _TOLD, f"{command or 'any command'} has failed")


def _worker(chart: _Chart, saga: Saga, queue: Queue, worker: WorkerOf) -> None:
    """A worker, if it returns what the saga takes, or what fails there is handled here."""
    if worker.is_subscriber:
        return
    taken = {one.type for one in saga.messages}
    handled = {*(one.name for one in saga.failures), *saga.compensates}
    returned = [one for one in worker.returns or () if one in taken]
    failing = [one for one in worker.takes if one in handled]
    if not returned and not failing:
        return
    label = f"{worker.name} performs {', '.join(worker.takes)} (queue {queue.name})"
    node = chart.node("worker", f"{queue.name}/{worker.name}", "[//]", label)
    for one in returned:
        chart.arrow(node, chart.node("message", one, _MESSAGE), dotted=True)
    for one in failing:
        chart.arrow(node, _failure(chart, one), dotted=True)


def _course(chart: _Chart, saga: Saga, queues: Iterable[Queue]) -> None:
    begins = chart.node("message", saga.messages[0].type, _MESSAGE)
    starting = _label(saga.messages[0])
    nodes = {step.name: _step(chart, step) for step in saga.steps}
    for step in saga.steps:
        node = nodes[step.name]
        for before in step.after:
            chart.arrow(nodes[before], node)
        if not step.after:
            chart.arrow(begins, node, starting)
        if step.undo is not None:
            undo = chart.node("undo", step.name, "[]", step.undo.name)
            chart.arrow(node, undo, "undone by", dotted=True)
    completed = chart.node("end", "completed", _END)
    followed = {name for step in saga.steps for name in step.after}
    for step in saga.steps:
        if step.name not in followed:
            chart.arrow(nodes[step.name], completed)
    _times_out(chart, saga)


def _step(chart: _Chart, step: Step) -> str:
    limit = "" if step.deadline_s is None else f", within {time(step.deadline_s)}"
    pivot = " (pivot: no way back)" if step.is_pivot else ""
    return chart.node("step", step.name, "[]", f"{step.name}{limit}{pivot}")


def _times_out(chart: _Chart, saga: Saga) -> None:
    if saga.timeout_s is None:
        return
    late = chart.node("timeout", "", _TIME, f"timeout: {time(saga.timeout_s)}")
    if saga.kind is Kind.ORDERED_SAGA:
        pivot = " unless past the pivot" if any(step.is_pivot for step in saga.steps) else ""
        end = chart.node("end", "undone", _END, f"what is done is undone{pivot}")
    else:
        end = chart.node("end", "failed", _END)
    chart.arrow(late, end)


def _coroutine(chart: _Chart, saga: Saga, queues: Iterable[Queue]) -> None:
    begins, *events = saga.messages
    body = chart.node("saga", saga.name, "[]", f"{saga.name}: its course is its code")
    chart.arrow(chart.node("message", begins.type, _MESSAGE), body, _label(begins))
    for event in events:
        waited = chart.node("message", event.type, _MESSAGE)
        chart.arrow(waited, body, f"may be awaited, by {event.by}", dotted=True)
    for step in saga.steps:
        chart.arrow(body, _step(chart, step), "may perform", dotted=True)
    _times_out(chart, saga)


def _schedule(chart: _Chart, saga: Saga, queues: Iterable[Queue]) -> None:
    node = chart.node("saga", saga.name)
    chart.arrow(chart.node("timing", "", _TIME, saga.timing), node)
    chart.arrow(node, chart.node("calls", "", "[]", f"what {saga.calls} returns"))


def _other(chart: _Chart, saga: Saga, queues: Iterable[Queue]) -> None:
    _takes_messages(chart, saga, chart.node("saga", saga.name))


_DRAWN: dict[Kind, Callable[[_Chart, Saga, Iterable[Queue]], None]] = {
    Kind.PROCESS_MANAGER: _manager,
    Kind.ORDERED_SAGA: _course,
    Kind.WORKFLOW: _course,
    Kind.COROUTINE: _coroutine,
    Kind.SCHEDULE: _schedule,
    Kind.OTHER: _other,
}
