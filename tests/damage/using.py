"""What a full use of a file shows: every instance, job, deadline, letter and queue in it.

``look`` opens a runtime over the file and uses all of it; what it saw are findings, each about a
subject: an instance's key, "queue:…", "" for nobody's, or "*" for the runtime as a whole. A refusal
is a finding, too. Next to read: ``judging.py``.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from perdure import Runtime, SqlStore
from perdure.errors import PerdureError
from perdure.testing import SimulatedClock
from tests.damage.filled import (
    FILLED_AT,
    INSTANCES,
    Parcel,
    Performed,
    members,
    settings,
)
from tests.runtime.support import rounds
from tests.sagas import HANDLED, TRIED, Added, Opened

__all__ = ["Refused", "Seen", "look"]

HANGS_AFTER_S = 60.0
RESTS_WITHIN_S = 5.0
STEPS_MAX = 1_500
ANSWERED_WITHIN_S = 60
SPINS_ABOVE = 6_000
"""So many records in the log are no report any more."""


@dataclass(frozen=True)
class Refused:
    """A refusal in place of a finding; ``typed``: an error of ours, with words."""

    error: str
    typed: bool


@dataclass
class Seen:
    """What a use of a file showed. ``found`` maps (subject, what) to a finding."""

    found: dict[tuple[str, str], Any] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    crash: str = ""

    def put(self, subject: str, what: str, value: Any) -> None:
        """Nobody's jobs have results for a parcel that is not there."""
        self.found["" if subject == "Parcel/x" else subject, what] = value

    @property
    def refusals(self) -> list[Refused]:
        return [value for value in self.found.values() if isinstance(value, Refused)]

    @property
    def noticed(self) -> str:
        """All that it said of damage, in errors and in the log."""
        return "\n".join([*(refused.error for refused in self.refusals), *self.log])


class _Listening(logging.Handler):
    def __init__(self, lines: list[str]) -> None:
        super().__init__(logging.WARNING)
        self.lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.levelname} {record.getMessage()}")


def look(path: Path) -> Seen:
    """Use everything in the file; never raises for what the file does to the runtime."""
    TRIED.clear()
    HANDLED.clear()
    seen = Seen()
    listening = _Listening(seen.log)
    logger = logging.getLogger("perdure")
    propagates, logger.propagate = logger.propagate, False
    logger.addHandler(listening)
    try:
        asyncio.run(_limited(path, seen))
    except TimeoutError:
        seen.crash = "it hangs"
    except Exception as error:
        seen.crash = f"{type(error).__name__}: {error}"
    finally:
        logger.removeHandler(listening)
        logger.propagate = propagates
    if len(seen.log) > SPINS_ABOVE:
        seen.crash = f"it spins: {len(seen.log)} records, such as {seen.log[-1]}"
    return seen


class _Enough(Exception):
    """A store that cannot be used is tried again at a steady pace; that was seen."""


class _Restless(SimulatedClock):
    """Goes on where a runtime does not come to rest: it waits for time, to try again."""

    is_restless = False
    steps = 0

    async def pass_by(self, minutes: float) -> None:
        """Advance, unless something is tried again and again: then a part of it is enough."""
        with suppress(_Enough):
            await self.advance(timedelta(minutes=minutes))

    async def settle(self) -> None:
        self.steps += 1
        if self.steps > STEPS_MAX:
            raise _Enough
        if not self.is_restless:
            try:
                async with asyncio.timeout(RESTS_WITHIN_S):
                    await super().settle()
                return
            except TimeoutError:
                self.is_restless = True
        await rounds(5)
        await asyncio.sleep(0.001)  # the database's thread has its turn, too


async def _limited(path: Path, seen: Seen) -> None:
    async with asyncio.timeout(HANGS_AFTER_S):
        await _use(path, seen)


async def _use(path: Path, seen: Seen) -> None:
    performed = Performed()
    clock = _Restless(FILLED_AT + timedelta(seconds=1))
    store = SqlStore(f"sqlite+aiosqlite:///{path}", synchronous="NORMAL")
    chance = random.Random(1)
    runtime = Runtime(store, members(performed), settings(), clock=clock, random=chance.random)
    if await _tried(seen, "*", "start", runtime.start()) is _FAILED:
        return
    try:
        await clock.pass_by(0)
        await _look_at_instances(runtime, seen, "before")
        await _look_at_queues(runtime, seen, clock)
        await _send(runtime, seen, clock)
        await clock.pass_by(25)
        await _redrive(runtime, seen, clock)
        await clock.pass_by(5)
        await _look_at_instances(runtime, seen, "after")
        await _look_at_histories(runtime, seen)
    finally:
        await runtime.stop()
    keys = Counter(performed.jobs)
    for (key, command), times in keys.items():
        seen.put(_sender_of(key), f"job {key}", (command, times))


def _sender_of(key: str) -> str:
    saga, slash, rest = key.partition("/")
    return f"{saga}/{rest.split('/')[0]}" if slash else ""


_FAILED = object()


async def _tried(seen: Seen, subject: str, what: str, doing: Awaitable[Any]) -> Any:
    """Do it; a refusal becomes the finding."""
    try:
        return await doing
    except PerdureError as error:
        seen.put(subject, what, Refused(f"{type(error).__name__}: {error}", True))
    except TimeoutError:
        raise
    except Exception as error:
        seen.put(subject, what, Refused(f"{type(error).__name__}: {error}", False))
    return _FAILED


async def _look_at_instances(runtime: Runtime, seen: Seen, when: str) -> None:
    for saga, id in INSTANCES:
        ref = runtime.ref(saga, id)
        view = await _tried(seen, ref.key, f"state {when}", runtime.state(ref))
        if view is not _FAILED:
            seen.put(ref.key, f"state {when}", _of_view(view))
    if when == "before":
        await _find(runtime, seen)
    for saga in dict.fromkeys(saga for saga, _ in INSTANCES):
        listed = _all(partial(runtime.instances, saga))
        views = await _tried(seen, "*", f"listing {saga.name} {when}", listed)
        for view in views if views is not _FAILED else ():
            key, found = f"{saga.name}/{view.correlation_id}", _of_view(view)
            if view.quarantined is not None:
                found = Refused(f"InstanceQuarantined: {view.quarantined}", True)
            seen.put(key, f"listed {when}", found)


async def _find(runtime: Runtime, seen: Seen) -> None:
    found = _all(partial(runtime.find, Parcel, where={"status": "new"}))
    views = await _tried(seen, "*", "found", found)
    for view in views if views is not _FAILED else ():
        seen.put(f"Parcel/{view.correlation_id}", "found", _of_view(view))
    counts = await _tried(seen, "*", "counts", runtime.counts())
    if counts is not _FAILED:
        seen.put("*", "counts", {name: one.active for name, one in counts.items()})


def _of_view(view: Any) -> Any:
    if view is None:
        return None
    return (view.status, view.state, view.sequence_nr, view.deadlines, view.failure)


async def _all(listing: Callable[[], AsyncIterator[Any]]) -> list[Any]:
    return [one async for one in listing()]


async def _look_at_queues(runtime: Runtime, seen: Seen, clock: _Restless) -> None:
    for name in ("parcels", "paused", "breaking", "shipping"):
        queue = runtime.queue(name)
        seen.put(f"queue:{name}", "pause", queue.pause_reason)
        jobs = await _tried(seen, f"queue:{name}", "jobs", _all(queue.jobs))
        for job in jobs if jobs is not _FAILED else ():
            subject = f"{job.saga}/{job.correlation_id}" if job.saga else ""
            seen.put(subject, f"waits {job.id}", (name, job.content, job.attempts, job.due_at))
    resuming = _answered(clock, runtime.queue("breaking").resume())
    await _tried(seen, "queue:breaking", "resume", resuming)


async def _answered(clock: _Restless, doing: Awaitable[Any]) -> Any:
    """A send is answered, after some tries perhaps: time must go on for these."""
    task = asyncio.ensure_future(doing)
    await asyncio.wait([task], timeout=RESTS_WITHIN_S)
    for _ in range(ANSWERED_WITHIN_S):
        if task.done():
            break
        clock.is_restless = True  # its retries wait for time, between answers of the database
        clock.steps = 0
        await clock.pass_by(1 / 60)  # no longer than it takes: what is parked would expire
    return await task


async def _send(runtime: Runtime, seen: Seen, clock: _Restless) -> None:
    for saga, id in INSTANCES:
        if id == "later":
            content: Any = Opened(id)
        elif saga.name in ("Ledger", "Alarm"):
            content = Added(id, 99)
        else:
            continue
        ref = runtime.ref(saga, id)
        for attempt in ("first", "again"):
            sending = runtime.send(ref, content, message_id=f"use-{id}")
            receipt = await _tried(seen, ref.key, f"sent {attempt}", _answered(clock, sending))
            if receipt is not _FAILED:
                seen.put(
                    ref.key,
                    f"sent {attempt}",
                    (receipt.outcome, receipt.sequence_nr, receipt.reply, receipt.duplicate),
                )


async def _redrive(runtime: Runtime, seen: Seen, clock: _Restless) -> None:
    letters = await _tried(seen, "*", "letters", _all(runtime.dead_letters.list))
    for letter in letters if letters is not _FAILED else ():
        subject = f"{letter.saga}/{letter.correlation_id}" if letter.saga else ""
        seen.put(
            subject,
            f"letter {letter.message_id}",
            (letter.type, letter.content, letter.queue, letter.reason, letter.error,
             letter.attempts, letter.at),
        )  # fmt: skip
        redriving = _answered(clock, runtime.dead_letters.redrive(letter.id))
        again = await _tried(seen, subject, f"redrive {letter.message_id}", redriving)
        if again is not _FAILED:
            seen.put(subject, f"redrive {letter.message_id}", again)


async def _look_at_histories(runtime: Runtime, seen: Seen) -> None:
    for saga, id in INSTANCES:
        ref = runtime.ref(saga, id)
        turns = await _tried(seen, ref.key, "history", _all(partial(runtime.history, ref)))
        if turns is not _FAILED:
            seen.put(ref.key, "history", [_of_turn(turn) for turn in turns])


def _of_turn(turn: Any) -> Any:
    """Ids that a runtime makes up are no findings."""
    return (turn.sequence_nr, turn.type, turn.message, turn.outcome, turn.status, turn.reply)
