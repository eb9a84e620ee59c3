"""A file in which every table has rows, written by a runtime that lived an ordinary life.

``fill`` writes it, ``members`` are the sagas and queues that go on with it. What is under way:
ledgers with snapshots, alarms with deadlines, an instance that waits for a retry and one message
behind it, a parked message, jobs that are ready, delayed, in a chain, and of nobody, dead letters
of both kinds, a paused queue. Next to read: ``using.py``.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from perdure import (
    Effects,
    Indexed,
    Job,
    ProcessManager,
    Runtime,
    Settings,
    SqlStore,
    WorkQueue,
    applies,
    continues,
    message,
    starts,
)
from perdure.core.commit import InboxReason, InboxRow
from perdure.core.correlation import VerdictKind
from perdure.errors import HandlerFailed, NonRetryable
from perdure.testing import SimulatedClock
from tests.runtime.support import parts
from tests.sagas import (
    TRIED,
    Added,
    Alarm,
    Armed,
    Begun,
    Flaky,
    Ledger,
    Opened,
    Shaky,
    Ship,
    Struck,
)

__all__ = ["FILLED_AT", "INSTANCES", "Performed", "fill", "members", "settings"]

FILLED_AT = datetime(2026, 1, 1, tzinfo=UTC)


def settings() -> Settings:
    return Settings(snapshot_every=3, shutdown_timeout_s=2)


@message(name="runtime-test.sent-out")
class SentOut:
    id: str
    queue: str = "parcels"
    count: int = 2


@message(name="runtime-test.carry")
class Carry:
    id: str
    n: int = 0


@message(name="runtime-test.carried")
class Carried:
    id: str
    n: int


@message(name="runtime-test.drop")
class Drop:
    id: str


@dataclass(frozen=True)
class ParcelState:
    carried: tuple[int, ...] = ()
    status: Indexed[str] = "new"


class Parcel(ProcessManager[ParcelState]):
    """Has things carried, each after the one before it."""

    name = "Parcel"

    @starts(SentOut, by="id")
    def sent_out(self, state: ParcelState, event: SentOut, do: Effects) -> None:
        if event.queue == "breaking":
            do.send(Drop(event.id))
        for n in range(event.count):
            do.send(Carry(event.id, n), queue=event.queue, after_previous=n > 0)

    @continues(Carried, by="id")
    def has_carried(self, state: ParcelState, event: Carried, do: Effects) -> None: ...

    @applies(Carried)
    def carry(self, state: ParcelState, event: Carried) -> ParcelState:
        return replace(state, carried=(*state.carried, event.n))


INSTANCES: list[tuple[Any, str]] = [
    *((Ledger, id) for id in ("a", "b", "c", "later")),
    *((Alarm, id) for id in ("a", "b", "c")),
    *((Flaky, id) for id in ("a", "b")),
    *((Parcel, id) for id in ("a", "b", "c", "d")),
]


@dataclass
class Performed:
    """What the workers of one runtime did: (key, command) each."""

    jobs: list[tuple[str, Any]] = field(default_factory=list)


def members(performed: Performed | None) -> list[Any]:
    """The sagas and queues; without ``performed``, nobody carries anything."""
    parcels, paused = WorkQueue("parcels"), WorkQueue("paused")
    breaking, shipping = WorkQueue("breaking"), WorkQueue("shipping")

    @breaking.worker
    async def drop(command: Drop, job: Job) -> None:
        raise NonRetryable(f"{command.id} was dropped")

    @shipping.worker
    async def ship(command: Ship, job: Job) -> None:
        if performed is not None:
            performed.jobs.append((job.key, command))

    if performed is not None:

        async def carry(command: Carry, job: Job) -> Carried:
            performed.jobs.append((job.key, command))
            return Carried(command.id, command.n)

        parcels.worker(carry)
        paused.worker(carry)
    return [Ledger, Alarm, Flaky, Parcel, parcels, paused, breaking, shipping]


async def fill(path: Path) -> None:
    """Write the file; beside it, a copy as a killed process leaves it (``.live`` and its log)."""
    TRIED.clear()
    clock = SimulatedClock(FILLED_AT)
    async with Runtime(_store(path), members(None), settings(), clock=clock) as runtime:
        for id, count in (("a", 7), ("b", 4), ("c", 1)):
            await runtime.publish(Opened(id), message_id=f"open-{id}")
            for n in range(count):
                await runtime.publish(Added(id, n), message_id=f"add-{id}-{n}")
            await runtime.settled()
            for name, after_s in (("a", 600), ("b", 1200)):
                await runtime.publish(Armed(id, name, after_s), message_id=f"arm-{id}-{name}")
        for id in ("a", "b"):
            await runtime.publish(Begun(id), message_id=f"begin-{id}")
        for n, fails in ((1, 1), (2, 0)):
            await runtime.publish(Shaky("a", n, fails), message_id=f"shake-{n}")
        await runtime.send(runtime.ref(Ledger, "later"), Added("later", 1), message_id="parked")
        with suppress(HandlerFailed):  # now it is a dead letter
            await runtime.publish(Struck("b", "error"), message_id="struck")
        for id, queue in (("a", "parcels"), ("b", "parcels"), ("c", "breaking"), ("d", "paused")):
            count = 0 if queue == "breaking" else 2
            sent = SentOut(id, queue, count)
            await runtime.publish(sent, message_id=f"send-{id}")
        for n, delay_s in enumerate((0, 300)):
            delay = timedelta(seconds=delay_s) if delay_s else None
            await runtime.enqueue(Carry("x", n), queue="parcels", job_id=f"own-{n}", delay=delay)
        await runtime.settled()
        await _pause_and_hold(runtime)
        for suffix in ("", "-wal"):
            shutil.copy(f"{path}{suffix}", f"{path}.live{suffix}")
        shutil.copy(f"{path}.lock", f"{path}.live.lock")


async def _pause_and_hold(runtime: Runtime) -> None:
    await runtime.queue("breaking").pause("by hand")
    services = parts(runtime).services
    waits = services.codec.encode(Added("c", 50))
    message_ = parts(runtime)._routing.message(
        services.codec, Added("c", 50), "held", services.new_id, services.clock.now_ms()
    )
    assert message_.body == waits.body
    body = services.journal.encode_waiting(message_, VerdictKind.CONTINUE, False)
    row = InboxRow("Ledger/c", "held", InboxReason.HELD, body, services.clock.now_ms())
    assert list(await services.store.write([row])) == [None]


def _store(path: Path) -> SqlStore:
    return SqlStore(f"sqlite+aiosqlite:///{path}", synchronous="NORMAL")
