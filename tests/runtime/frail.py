"""Sagas whose turns fail where and as often as a message says, one per strategy."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, ClassVar

from perdure import (
    DeadlineReached,
    Effects,
    Fixed,
    NonRetryable,
    ProcessManager,
    Runtime,
    Settings,
    Supervision,
    WorkQueue,
    applies,
    continues,
    message,
    on_deadline,
    starts,
)

POINTS = ("handle", "apply", "deadline", "result")


@message(name="runtime-test.frail.born")
class Born:
    id: str
    fails: int = 0


@message(name="runtime-test.frail.hit")
class Hit:
    """Fails this often, at this point; ``at`` "" means nowhere."""

    id: str
    n: int
    at: str = "handle"
    fails: int = 0
    is_final: bool = False


@message(name="runtime-test.frail.fetch")
class Fetch:
    id: str
    n: int
    fails: int


@message(name="runtime-test.frail.fetched")
class Fetched:
    id: str
    n: int
    fails: int


TRIED: Counter[str] = Counter()
"""Attempts per (instance, number)."""


def shake(key: str, fails: int, is_final: bool = False) -> None:
    TRIED[key] += 1
    if TRIED[key] <= fails:
        raise NonRetryable("hopeless") if is_final else ValueError("shaken")


@dataclass(frozen=True)
class FrailState:
    seen: tuple[int, ...] = ()
    late: Hit | None = None


class Frail(ProcessManager[FrailState]):
    """Resumes, as by default."""

    name = "Frail"

    @starts(Born, by="id")
    def born(self, state: FrailState, event: Born, do: Effects) -> None:
        shake(f"{event.id}/born", event.fails)

    @continues(Hit, by="id")
    def hit(self, state: FrailState, event: Hit, do: Effects) -> None:
        if event.at == "handle":
            shake(f"{event.id}/{event.n}", event.fails, event.is_final)
        elif event.at == "deadline":
            do.deadline("late", timedelta(seconds=1))
        elif event.at == "result":
            do.send(Fetch(event.id, event.n, event.fails))

    @continues(Fetched, by="id")
    def fetched(self, state: FrailState, event: Fetched, do: Effects) -> None:
        shake(f"{event.id}/{event.n}", event.fails)

    @on_deadline("late")
    def late(self, state: FrailState, do: Effects) -> None:
        assert state.late is not None
        shake(f"{state.late.id}/{state.late.n}", state.late.fails)

    @applies(Hit)
    def took(self, state: FrailState, event: Hit) -> FrailState:
        if event.at == "apply":
            shake(f"{event.id}/{event.n}", event.fails)
        if event.at == "deadline":
            return replace(state, late=event)
        return state if event.at == "result" else replace(state, seen=(*state.seen, event.n))

    @applies(Fetched)
    def took_result(self, state: FrailState, event: Fetched) -> FrailState:
        return replace(state, seen=(*state.seen, event.n))

    @applies(DeadlineReached)
    def took_deadline(self, state: FrailState, event: DeadlineReached) -> FrailState:
        assert state.late is not None
        return replace(state, seen=(*state.seen, state.late.n))


class Restarted(Frail):
    name = "Restarted"
    supervision: ClassVar[Supervision] = Supervision.restart(
        max_restarts=3, within=timedelta(minutes=1), backoff=Fixed(10)
    )


class Stopped(Frail):
    name = "Stopped"
    supervision = Supervision.stop()


class Quarantined(Frail):
    name = "Quarantined"
    supervision = Supervision.quarantine()


class Escalating(Frail):
    name = "Escalating"
    supervision = Supervision.escalate()


def fetching() -> WorkQueue:
    """Performs what frail sagas send."""
    queue = WorkQueue("fetching")

    @queue.worker
    def fetch(command: Fetch) -> Fetched:
        return Fetched(command.id, command.n, command.fails)

    return queue


def frail(store: Any, clock: Any, *sagas: type, **more: Any) -> Runtime:
    chosen = Settings(retry_pause_s=0.01, **more)
    return Runtime(store, [*(sagas or (Frail,)), fetching()], chosen, clock=clock)


async def born(runtime: Runtime, saga: type, id: str = "x") -> Any:
    """A ref to an instance that has begun."""
    ref = runtime.ref(saga, id)
    await runtime.send(ref, Born(id))
    return ref


async def hit(runtime: Runtime, ref: Any, n: int, **how: Any) -> Any:
    """The outcome of a message, numbered."""
    sent = Hit(ref.correlation_id, n, **how)
    return (await runtime.send(ref, sent, message_id=f"m-{n}")).outcome


async def seen(runtime: Runtime, ref: Any) -> tuple[int, ...]:
    view = await runtime.state(ref)
    assert view is not None
    return tuple(view.state.seen)


async def quarantined(runtime: Runtime, saga: Any = None) -> list[tuple[str, str, int]]:
    """(correlation id, reason, held) of those that are set aside."""
    return [(one.correlation_id, one.reason, one.held) async for one in runtime.quarantined(saga)]
