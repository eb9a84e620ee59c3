"""Retention: who has ended is purged, over crashes and doubts, and known until it is forgotten."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import Any
from unittest import mock

from perdure import (
    Complete,
    Effects,
    Fixed,
    Job,
    Outcome,
    ProcessManager,
    Receipt,
    Retention,
    Runtime,
    Status,
    WorkQueue,
    applies,
    continues,
    starts,
)
from perdure.runtime.retention import purge_entries, purge_pieces
from perdure.testing import Ledger, World
from perdure.testing.simulation.calls import Call
from tests.simulation.sagas import AskFor, Begin, Count

__all__ = ["PURGES"]

KEPT, KNOWN = timedelta(seconds=20), timedelta(hours=6)


@dataclass(frozen=True)
class TakenState:
    numbers: tuple[int, ...] = ()


class Passing(ProcessManager[TakenState]):
    """Ends with its fourth number; the last thing it sends is answered after its end."""

    name = "sim.passing"
    retention = Retention.keep_for(KEPT, tombstone=KNOWN)

    @starts(Begin, by="id")
    def begins(self, state: TakenState, event: Begin, do: Effects) -> None: ...

    @continues(Count, by="id")
    def counted(self, state: TakenState, event: Count, do: Effects) -> Any:
        do.send(AskFor(event.id, event.number))
        do.reply(len(state.numbers))
        return [Complete(len(state.numbers))] if len(state.numbers) == ENDS else None

    @applies(Count)
    def fold_counted(self, state: TakenState, event: Count) -> TakenState:
        return replace(state, numbers=(*state.numbers, event.number))


ENDS = 4

passing = WorkQueue("sim.passing", concurrency=2, retry=Fixed(15, max_attempts=None))


@passing.worker
async def note(command: AskFor, job: Job, effects: Ledger) -> None:
    """The last one of p-2 is done long after its end; it is not purged before."""
    if (command.id, command.number) == ("p-2", ENDS - 1) and job.attempt < 3:
        raise ConnectionError("not yet")
    effects.note(job.key, command.number)


IDS = ("p-1", "p-2", "p-3")


@contextmanager
def in_small_steps() -> Iterator[None]:
    """A journal of some turns takes several entries, and an instance several pieces."""
    with (
        mock.patch.object(purge_entries, "ROWS", 2),
        mock.patch.object(purge_pieces, "ROWS", 2),
        mock.patch.object(purge_pieces, "PIECE", 2),
        mock.patch.object(purge_pieces, "PIECE_ROWS", 4),
    ):
        yield


def in_steps(scenario: Callable[[World], None]) -> Callable[[World], None]:
    def stepwise(world: World) -> None:
        with in_small_steps():
            scenario(world)

    return stepwise


def is_purged(world: World, id_: str) -> bool:
    view = world.instance(Passing, id_)
    assert view is not None, id_
    return view.purged


def live_and_end(world: World) -> None:
    """All but p-0 end, which stays as it is."""
    for id_ in ("p-0", *IDS):
        world.publish(Begin(id_), message_id=f"{id_}/begin")
    for id_ in ("p-0", *IDS):
        for number in range(ENDS - (id_ == "p-0")):
            world.send(Passing, id_, Count(id_, number), message_id=f"{id_}/{number}")


def come_around(world: World, sql: str, after: timedelta) -> None:
    """Have messages come for all of them about when something will be done about them."""
    found_ms = world.tables.one(sql)
    if found_ms is None:
        return
    moment_s = (found_ms + after // timedelta(milliseconds=1)) / 1000 - world.now.timestamp()
    choices = world.machine.choices
    for id_ in IDS:
        for number in range(20, 20 + 2 * ENDS):
            off_s = 0.04 * choices.number("off") - 0.01
            sent = partial(late, id_, number)
            world.calls.make(Call("a late one", sent, is_send=True), max(0.0, moment_s + off_s))


async def late(id_: str, number: int, runtime: Runtime) -> Receipt:
    return await runtime.send(runtime.ref(Passing, id_), Count(id_, number))


def nobody_is_revived(world: World) -> None:
    """What was sent before is known, and changes nothing; what is new comes too late."""
    for id_ in IDS:
        for number in range(ENDS):
            again = world.send(Passing, id_, Count(id_, number), message_id=f"{id_}/{number}")
            assert (again.outcome, again.duplicate) == (Outcome.FINISHED, True), again
        world.publish(Begin(id_), message_id=f"{id_}/begin")
        for number in range(10, 14):
            late = world.send(Passing, id_, Count(id_, number))
            assert late.outcome is Outcome.FINISHED, late
        view = world.instance(Passing, id_)
        assert view is not None
        assert (view.status, view.state, view.purged) == (Status.COMPLETED, None, True), view


@in_steps
def purged_in_their_time(world: World) -> None:
    live_and_end(world)
    come_around(world, "SELECT max(updated_at_ms) FROM instances WHERE status = 'completed'", KEPT)
    world.advance(minutes=30)
    assert all(is_purged(world, id_) for id_ in IDS), [world.instance(Passing, id_) for id_ in IDS]
    nobody_is_revived(world)
    world.advance(minutes=1)
    nobody_is_revived(world)
    assert world.state(Passing, "p-0").numbers == (0, 1, 2)
    world.publish(Count("p-0", 3))
    world.advance(minutes=2)
    assert sorted(world.effects.once()) == sorted([*range(ENDS)] * 4), world.effects.once()


async def kept(runtime: Runtime) -> list[str]:
    return [view.correlation_id async for view in runtime.instances(Passing)]


@in_steps
def forgotten_in_their_time(world: World) -> None:
    live_and_end(world)
    world.advance(minutes=30)
    nobody_is_revived(world)
    come_around(world, "SELECT min(until_ms) FROM tombstones", timedelta(0))
    world.advance(hours=12)
    assert world.ask(kept) == ["p-0"]
    assert [world.instance(Passing, id_) for id_ in IDS] == [None] * len(IDS)
    assert world.tables.all("SELECT * FROM tombstones") == []
    left = world.tables.all("SELECT instance FROM snapshots UNION SELECT instance FROM journal")
    assert left == [("sim.passing/p-0",)], left
    world.publish(Begin("p-1"))
    world.publish(Count("p-1", 7))
    assert world.state(Passing, "p-1").numbers == (7,)


PURGES: dict[str, tuple[Callable[[World], None], list[Any]]] = {
    "purged": (purged_in_their_time, [Passing, passing]),
    "forgotten": (forgotten_in_their_time, [Passing, passing]),
}
