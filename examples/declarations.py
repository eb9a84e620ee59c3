"""Replays a log of expense declarations: each is an instance that waits, reminds, escalates.

    python examples/declarations.py                                   # the small log in data/
    python examples/declarations.py --log big.xes.gz --store sqlite+aiosqlite:///declarations.db

A declaration is submitted, approved by one person after another, perhaps rejected and submitted
again, and at last paid. Whenever nothing happens for a week, a reminder is sent; after three, the
matter is escalated. Two years of that pass in a minute, because the clock is simulated; the waiting
is done by the runtime's durable deadlines all the same. Reminders and escalations are commands; a
worker writes each to a file of notices, ``declarations.db.notices`` beside the store above.

Kill it at any moment (``kill -9``) and run it again over the same store: the events it knows by
their ids change nothing, the rest is done, the figures at the end are the same, and the notices
hold each command once. All figures but ``events`` are read back from the store. Next to read:
``notices.py``, the file; ``xes.py``, the log's format.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import re
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import groupby
from pathlib import Path
from typing import Any

from notices import Notices
from perdure import (
    Effects,
    Exponential,
    Job,
    Outcome,
    PerdureError,
    ProcessManager,
    Runtime,
    Settings,
    Status,
    WorkQueue,
    applies,
    message,
    on_deadline,
    starts,
)
from perdure.testing.clock import SimulatedClock
from xes import XesError, XesEvent, read_events

SAMPLE = Path(__file__).parent / "data" / "declarations_sample.xes"
WEEK = timedelta(days=7)
REMINDERS_PER_WAIT = 3
TOGETHER_MAX = 500
"""So many events of one moment are under way at a time: fewer than a mailbox holds."""

# The saga


@message(name="declarations.Happened")
class Happened:
    """An event of the log."""

    case: str
    activity: str


@message(name="declarations.SendReminder")
class SendReminder:
    """A command: somebody has kept a declaration waiting for a week."""

    case: str


@message(name="declarations.Escalate")
class Escalate:
    """A command: reminding did not help."""

    case: str


@message(name="declarations.Reminded")
class Reminded:
    """Recorded with each reminder, so that the state knows how many this wait has seen."""


@message(name="declarations.Escalated")
class Escalated:
    """Recorded with an escalation."""


_STATUSES = {
    "SAVED": "saved",
    "SUBMITTED": "submitted",
    "APPROVED": "in_approval",
    "FINAL_APPROVED": "final_approved",
    "REJECTED": "rejected",
}
_STEP = re.compile(rf".+ ({'|'.join(_STATUSES)}) by .+", re.DOTALL)


def status_after(activity: str) -> str | None:
    """The status an activity leads to; None for one that is unknown.

    >>> status_after("Request For Payment APPROVED by BUDGET OWNER"), status_after("Start trip")
    ('in_approval', None)
    """
    if activity == "Request Payment":
        return "payment_requested"
    if activity == "Payment Handled":
        return "paid"
    step = _STEP.fullmatch(activity)
    return _STATUSES[step[1]] if step else None


@dataclass(frozen=True)
class DeclarationState:
    """``reminded`` counts the reminders of the present wait, ``reminders`` those of all waits."""

    case: str = ""
    status: str = "new"
    applied: int = 0
    unknown: int = 0
    submitted: int = 0
    rejected: int = 0
    reminded: int = 0
    reminders: int = 0
    escalations: int = 0


class Declaration(ProcessManager[DeclarationState]):
    """One expense declaration. What happened changes the state; what to do is decided apart."""

    @applies(Happened)
    def happened(self, state: DeclarationState, event: Happened) -> DeclarationState:
        status = status_after(event.activity)
        if status is None:
            return replace(state, case=event.case, unknown=state.unknown + 1)
        return replace(
            state,
            case=event.case,
            status=status,
            applied=state.applied + 1,
            submitted=state.submitted + (status == "submitted"),
            rejected=state.rejected + (status == "rejected"),
            reminded=0,
        )

    @applies(Reminded)
    def was_reminded(self, state: DeclarationState, event: Reminded) -> DeclarationState:
        return replace(state, reminded=state.reminded + 1, reminders=state.reminders + 1)

    @applies(Escalated)
    def was_escalated(self, state: DeclarationState, event: Escalated) -> DeclarationState:
        return replace(state, escalations=state.escalations + 1)

    @starts(Happened, by="case")
    def go_on(self, state: DeclarationState, event: Happened, do: Effects) -> None:
        status = status_after(event.activity)
        if status == "paid":
            do.complete()
        elif status is not None:  # an unknown activity leaves a wait as it is
            do.deadline("wait", WEEK)

    @on_deadline("wait")
    def overdue(self, state: DeclarationState, do: Effects) -> None:
        if state.reminded < REMINDERS_PER_WAIT:
            do.record(Reminded())
            do.send(SendReminder(state.case))
            do.deadline("wait", WEEK)
        else:
            do.record(Escalated())
            do.send(Escalate(state.case))


# The worker. It is killed with everything else, so it is tried for ever: a command that has met
# five kills is not at fault.

notifying = WorkQueue("notices", retry=Exponential(max_attempts=None))


@notifying.worker
def write_down(command: SendReminder | Escalate, job: Job, notices: Notices) -> None:
    kind = "reminder" if isinstance(command, SendReminder) else "escalation"
    notices.append(job.key, {"case": command.case, "notice": kind})


# The replay


async def replay(
    runtime: Runtime,
    clock: SimulatedClock,
    events: list[XesEvent],
    stop: asyncio.Event,
    on_progress: Callable[[int], None],
) -> None:
    """Deliver the events, each at its time, until the end or ``stop``."""
    done = 0
    for _, moment in groupby(events, key=lambda event: event.at_ms):
        together = list(moment)
        await clock.advance_to(together[0].at)  # fires every deadline on the way
        for first in range(0, len(together), TOGETHER_MAX):
            if stop.is_set():
                return
            await deliver(runtime, together[first : first + TOGETHER_MAX])
        done += len(together)
        on_progress(done)


async def deliver(runtime: Runtime, events: list[XesEvent]) -> None:
    """Publish events under their own ids: a repeated one is known, and changes nothing."""
    published = [
        runtime.publish(Happened(event.case, event.activity), message_id=event.id)
        for event in events
    ]
    if len(published) == 1:  # most moments have one event; it needs no task of its own
        await published[0]
    else:
        await asyncio.gather(*published)


# The figures


async def figures(runtime: Runtime, events: int) -> dict[str, Any]:
    """What the store holds now: states from ``instances``, commands and late events from
    ``history``."""
    found: Counter[str] = Counter()
    statuses: Counter[str] = Counter()
    states: list[str] = []
    commands: list[str] = []
    async for instance in runtime.instances(Declaration):
        state: DeclarationState = instance.state
        found["instances"] += 1
        found["applied"] += state.applied
        found["unknown"] += state.unknown
        found["completed" if instance.status is Status.COMPLETED else "open"] += 1
        found["pending_deadlines"] += len(instance.deadlines)
        statuses[state.status] += 1
        sent: Counter[str] = Counter()
        async for turn in runtime.history(runtime.ref(Declaration, state.case)):
            if turn.outcome is Outcome.FINISHED and isinstance(turn.message, Happened):
                found["late_events"] += 1
            for command in turn.sent:
                name = type(command.content).__name__
                sent[name] += 1
                commands.append(f"{state.case}|{name}|{sent[name]}")
        found["reminders"] += sent["SendReminder"]
        found["escalations"] += sent["Escalate"]
        states.append(
            f"{state.case}|{state.status}|{state.applied}|{state.submitted}|{state.rejected}"
            f"|{state.reminders}|{state.escalations}"
        )
    return {
        "instances": found["instances"],
        "events": events,
        "applied": found["applied"],
        "late_events": found["late_events"],
        "unknown": found["unknown"],
        "completed": found["completed"],
        "open": found["open"],
        "reminders": found["reminders"],
        "escalations": found["escalations"],
        "pending_deadlines": found["pending_deadlines"],
        "statuses": dict(sorted(statuses.items())),
        "state_digest": digest(states),
        "command_digest": digest(commands),
    }


def digest(lines: Iterable[str]) -> str:
    """The SHA-256 of the sorted lines."""
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def in_words(found: dict[str, Any]) -> str:
    """The figures for a reader."""
    lines = []
    for name, value in found.items():
        text = ", ".join(f"{k} {v}" for k, v in value.items()) if name == "statuses" else value
        lines.append(f"{name.replace('_', ' '):18} {text}")
    return "\n".join(lines)


# The program


@contextmanager
def progress(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal that rich can draw on; otherwise nothing."""
    try:
        from rich.progress import Progress
    except ImportError:
        yield lambda done: None
        return
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.console import Console

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=total)
        yield lambda done: bar.update(task, completed=done)


def read_log(path: Path) -> list[XesEvent]:
    """All events in time order. Sorting is stable: at one moment, the order of the file counts."""
    with progress("reading", path.stat().st_size) as on_progress:
        events = list(read_events(path, on_progress))
    events.sort(key=lambda event: event.at_ms)
    return events


async def run(options: argparse.Namespace, events: list[XesEvent]) -> dict[str, Any] | None:
    """Replay the events and give the figures; None if SIGTERM or SIGINT came before the end."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop.set)
    # In simulated time everybody is idle for days between two events; that says nothing about
    # memory. So instances leave it only when there are too many.
    settings = Settings(idle_after_s=None, residents_max=options.max_resident)
    clock = SimulatedClock(events[0].at) if events else SimulatedClock()
    with notices_of(options) as notices:
        async with Runtime(
            options.store,
            [Declaration, notifying],
            settings,
            resources={"notices": notices},
            clock=clock,
        ) as runtime:
            with progress("replaying", len(events)) as on_progress:
                await replay(runtime, clock, events, stop, on_progress)
            if stop.is_set():
                return None
            await runtime.settled()  # until all commands are performed
            return await figures(runtime, len(events))


@contextmanager
def notices_of(options: argparse.Namespace) -> Iterator[Notices]:
    """The file of notices: the one named, or the one beside the store, or a temporary one."""
    file = options.store.partition(":///")[2].partition("?")[0]
    with tempfile.TemporaryDirectory() as temporary:
        beside = f"{file}.notices" if file else f"{temporary}/notices"
        with Notices(options.notices or Path(beside)) as notices:
            yield notices


def options_of(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Replay a log of expense declarations.")
    parser.add_argument("--log", type=Path, default=SAMPLE, help="an XES file, may be gzipped")
    parser.add_argument("--store", default="memory://", metavar="URL", help="default: %(default)s")
    parser.add_argument(
        "--max-resident",
        type=int,
        default=Settings().residents_max,
        metavar="N",
        help="so many instances in memory at most (default: %(default)s)",
    )
    parser.add_argument(
        "--notices", type=Path, metavar="FILE", help="default: beside the store, or temporary"
    )
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    options = options_of(arguments)
    try:
        events = read_log(options.log)
        found = asyncio.run(run(options, events))
    except (XesError, PerdureError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if found is None:
        print("stopped before the end; run it again over the same store to go on", file=sys.stderr)
        return 128 + signal.SIGTERM
    print(json.dumps(found, indent=2) if options.json else in_words(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
