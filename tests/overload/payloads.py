"""Payloads far beyond the limit: refused in few words, at little cost; just below it, taken."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from perdure import (
    Effects,
    Fixed,
    MemoryStore,
    PerdureError,
    ProcessManager,
    Runtime,
    Settings,
    WorkQueue,
    applies,
    message,
    starts,
)
from perdure.testing import FaultyStore
from tests.overload.common import Figures, Hit, Tally, check_numbers
from tests.runtime.support import parts

HUGE = 64 << 20


@message(name="overload-test.blob")
class Blob:
    text: str


@message(name="overload-test.make")
class Make:
    """Makes something of this size: an event, a command, a reply, a result, a state."""

    id: str
    what: str
    size: int
    count: int = 1


@dataclass(frozen=True)
class MadeState:
    text: str = ""
    events: int = 0


class Maker(ProcessManager[MadeState]):
    name = "overload-test.maker"

    @starts(Make, by="id")
    def make(self, state: MadeState, event: Make, do: Effects) -> None:
        for _ in range(event.count):
            text = "x" * event.size
            match event.what:
                case "event":
                    do.record(Blob(text))
                case "command":
                    do.send(Blob(text))
                case "reply":
                    do.reply(text)
                case "result":
                    do.complete(text)

    @applies(Blob)
    def blob(self, state: MadeState, event: Blob) -> MadeState:
        return replace(state, events=state.events + 1)

    @applies(Make)
    def made(self, state: MadeState, event: Make) -> MadeState:
        return replace(state, text="x" * event.size) if event.what == "state" else state


def printer(size: int) -> WorkQueue:
    """Its worker's result is of this size."""
    queue = WorkQueue("printer", retry=Fixed(0, max_attempts=1))

    @queue.worker
    def print_it(command: Blob) -> Blob:
        return Blob("x" * size)

    return queue


async def refused(attempt: Callable[[], Awaitable[object]]) -> tuple[PerdureError, int, float]:
    """The error, the memory it took at most in bytes, the seconds."""
    tracemalloc.start()
    started = time.perf_counter()
    try:
        await attempt()
    except PerdureError as error:
        return error, tracemalloc.get_traced_memory()[1], time.perf_counter() - started
    finally:
        tracemalloc.stop()
    raise AssertionError("it was not refused")


def from_outside(runtime: Runtime, huge: str) -> dict[str, Callable[[], Awaitable[object]]]:
    """Every way in for something huge."""
    hit = Hit("t", "s", 1)

    async def ref(id: object) -> object:
        return runtime.ref(Tally, id)

    def plain(**given: object) -> dict[str, object]:
        data = {"id": "t", "sender": "s", "n": 1}
        return {"type": "overload-test.hit", "data": data, **given}

    return {
        "message": lambda: runtime.publish(Hit("t", "s", 1, huge)),
        "message to a ref": lambda: runtime.send(runtime.ref(Tally, "t"), Hit("t", "s", 1, huge)),
        "id in a message": lambda: runtime.publish(Hit(huge, "s", 1)),
        "command": lambda: runtime.enqueue(Blob(huge)),
        "event from outside": lambda: runtime.publish(plain(data={"id": huge})),
        "type from outside": lambda: runtime.publish(plain(type=huge)),
        "id from outside": lambda: runtime.publish(plain(id=huge)),
        "message id": lambda: runtime.publish(hit, message_id=huge),
        "job id": lambda: runtime.enqueue(Blob(""), job_id=huge),
        "correlation id": lambda: runtime.publish(hit, correlation_id=huge),
        "causation id": lambda: runtime.publish(hit, causation_id=huge),
        "header": lambda: runtime.publish(hit, headers={"a": huge}),
        "header name": lambda: runtime.publish(hit, headers={huge: "a"}),
        "headers": lambda: runtime.publish(hit, headers={f"h-{n}": "" for n in range(100_000)}),
        "id of a ref": lambda: ref(huge),
        "id in parts": lambda: ref(("a", huge)),
        "id of bytes": lambda: ref(huge.encode()),
        "id of a number": lambda: ref(1 << HUGE),
    }


async def payloads(size: int = HUGE) -> Figures:
    """The dearest of them: memory as a multiple of the payload, and milliseconds."""
    store, huge = FaultyStore(MemoryStore()), "x" * size
    async with Runtime(store, [Tally, Maker, printer(1)]) as runtime:
        multiples, times = {}, {}
        for name, attempt in from_outside(runtime, huge).items():
            error, peak, seconds = await refused(attempt)
            assert len(str(error)) < 1_000, name
            multiples[name], times[name] = peak / size, seconds * 1e3
        assert store.writes == 0
        assert parts(runtime).supervisor.active == {}
        await runtime.publish(Hit("t", "s", 1))
        await check_numbers(runtime, store)
    return {
        "ways in": len(multiples),
        "memory, multiple of the payload": max(multiples.values()),
        "slowest, ms": max(times.values()),
    }


LIMIT = 100_000
OVERHEAD = 64


def limited(store: object, *members: object) -> Runtime:
    """A runtime where LIMIT is the limit."""
    settings = Settings(message_bytes_max=LIMIT, turn_bytes_max=5 * LIMIT, snapshot_every=1)
    return Runtime(store, [Maker, *members], settings)  # type: ignore[arg-type, list-item]
