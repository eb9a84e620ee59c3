"""Deadlines by the hundred thousand: overdue after a restart, and many of one instance."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from perdure import (
    Effects,
    ProcessManager,
    Runtime,
    SetDeadline,
    Settings,
    SqlStore,
    Start,
    applies,
    message,
    on_deadline,
    starts,
)
from perdure.store.protocol import Store
from perdure.testing import SimulatedClock
from tests.overload.common import (
    HANDLED,
    Figures,
    Hit,
    SlowStore,
    Tally,
    at_once,
    check_numbers,
    share,
    shuffled,
)
from tests.runtime.support import parts, until


@message(name="overload-test.rested")
class Rested:
    id: str
    for_s: float


@dataclass(frozen=True)
class RestState:
    woken: int = 0


FIRED: list[tuple[int, str]] = []
"""(due after so many ms, instance), in the order of the turns."""


class Rest(ProcessManager[RestState]):
    name = "overload-test.rest"

    @starts(Rested, by="id")
    def rested(self, state: RestState, event: Rested, do: Effects) -> None:
        do.deadline("rested", timedelta(seconds=event.for_s))

    @on_deadline("rested")
    def woken(self, state: RestState, do: Effects) -> None:
        HANDLED.append("deadline")
        FIRED.append((state.woken, do.metadata.instance_id))

    @applies(Rested)
    def rest(self, state: RestState, event: Rested) -> RestState:
        return replace(state, woken=int(event.for_s * 1000))


@message(name="overload-test.planned")
class Planned:
    id: str
    count: int


class Plans(ProcessManager[RestState]):
    """Sets as many deadlines as it is told, under names of their own, three at each moment."""

    name = "overload-test.plans"

    def interested_in(self):
        return [Planned]

    def correlate(self, event, metadata):
        return Start(event.id)

    def handle(self, state, event, metadata) -> Iterator[SetDeadline]:
        if isinstance(event, Planned):
            for n in range(event.count):
                yield SetDeadline(f"d-{n % 7}-{n:05}", after=timedelta(seconds=60 + n // 3))
        else:
            FIRED.append((metadata.sequence_nr, event.name))

    def apply(self, state, event, metadata=None):
        return replace(state, woken=state.woken + 1)


@dataclass(frozen=True)
class Sizes:
    """``instances`` have a deadline each; some moments are the same. ``page`` are read at once."""

    instances: int = 1_500
    in_flight: int = 50
    page: int = 200
    residents: int = 300
    traffic: int = 100


FULL = Sizes(instances=100_000, in_flight=1_000, page=10_000, residents=20_000, traffic=1_000)


async def overdue(directory: Path, sizes: Sizes = Sizes()) -> Figures:
    """All are overdue when the runtime starts; others are sent to meanwhile."""
    url = f"sqlite+aiosqlite:///{directory}/due.db"
    clock = SimulatedClock()
    members: list[Any] = [Rest, Tally]
    async with Runtime(
        SqlStore(url, synchronous="NORMAL"),
        members,
        Settings(residents_max=sizes.residents),
        clock=clock,
    ) as runtime:
        # In no order; each moment is that of five.
        waits = shuffled([(f"r-{n:06}", 60.0 + n // 5) for n in range(sizes.instances)])
        await at_once(500, (runtime.publish(Rested(*wait)) for wait in waits))
    await clock.advance(timedelta(days=2))
    FIRED.clear()
    HANDLED.clear()
    store = SlowStore(SqlStore(url, synchronous="NORMAL"))
    settings = Settings(
        deadlines_in_flight_max=sizes.in_flight,
        deadline_page=sizes.page,
        residents_max=sizes.residents,
    )
    runtime = Runtime(store, members, settings, clock=clock)
    async with runtime:
        timer = parts(runtime).supervisor.wakeups._deadlines
        flying, held, sent_at = 0, 0, {}
        sending: list[asyncio.Task[list]] = []
        while len(FIRED) < sizes.instances:
            flying = max(flying, timer._in_flight_count)
            held = max(held, len(timer._queue))
            assert timer._in_flight_count <= sizes.in_flight
            assert runtime.residents <= sizes.residents + sizes.in_flight + sizes.traffic
            due = len(FIRED) * sizes.traffic // sizes.instances
            while len(sending) < min(due, sizes.traffic):
                hit = Hit(f"t-{len(sending)}", "beside", len(sending))
                sent_at[hit.name] = len(HANDLED)
                sending.append(asyncio.create_task(runtime.publish(hit)))
            await asyncio.sleep(0)
        await asyncio.gather(*sending)
        await check_numbers(runtime, store)
        assert await store.inner.deadlines() == []
    check_fired(sizes)
    waits_in_turns = [turn - sent_at[name] for turn, name in enumerate(HANDLED) if name in sent_at]
    HANDLED.clear()
    return {
        "fired": len(FIRED),
        "in flight at most": flying,
        "held at most": held,
        "beside: sent": len(waits_in_turns),
        "beside: median wait": share(waits_in_turns, 0.5),
        "beside: p99 wait": share(waits_in_turns, 0.99),
        "pages": store.calls["deadlines"],
    }


def check_fired(sizes: Sizes) -> None:
    """Each once, in due order, equal moments in the order of their instances."""
    assert sorted(FIRED) == FIRED
    assert len({id for _, id in FIRED}) == len(FIRED) == sizes.instances


async def of_one(store: Store, count: int = 900) -> Figures:
    """Very many of one instance, overdue together: in due order, then by name; each once."""
    clock = SimulatedClock()
    async with Runtime(store, [Plans], clock=clock) as runtime:
        await runtime.publish(Planned("p", count))
        FIRED.clear()
        await clock.advance(timedelta(days=1))
        await until(lambda: len(FIRED) == count)
        await runtime.settled()
        view = await runtime.state(runtime.ref(Plans, "p"))
        assert view is not None
        assert (view.sequence_nr, view.deadlines) == (count + 1, {})
    names = [name for _, name in FIRED]
    assert len(set(names)) == count
    assert names == sorted(names, key=lambda name: (int(name[4:]) // 3, name))
    return {"fired": len(names)}
