"""Scenarios in which people step in: they redrive, cancel, tell without waiting, come at the limit.

As ``stories.py``, which has the sagas they are about.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any

from perdure import (
    Context,
    Effects,
    Fixed,
    Job,
    Runtime,
    Supervision,
    WorkQueue,
    continues,
    message,
    workflow,
)
from perdure.errors import HandlerFailed, InstanceFinished, InstanceNotFound, MailboxFull
from perdure.testing import Ledger, World
from perdure.testing.simulation.calls import Call
from tests.simulation.sagas import BROKEN, FAILURES, AskFor, Begin, Count, Counting, CountState
from tests.testing.simulation.stories import UNDOING, Trip, trip, write

__all__ = ["REPAIRS"]


# Dead letters, of messages and of jobs, sent on their way again


class Mended(Counting):
    name = "sim.mended"

    @continues(AskFor, by="id")
    def asked(self, state: CountState, event: AskFor, do: Effects) -> None:
        do.send(event)


mending = WorkQueue("sim.mending", retry=Fixed(0.5, max_attempts=2))


@mending.worker
async def mend(command: AskFor, job: Job, effects: Ledger) -> Count:
    if not FAILURES["mended"]:
        raise ValueError("not yet")
    effects.note(job.key, command.number)
    return Count(command.id, command.number)


async def redrive(letter_id: int, runtime: Runtime) -> bool:
    return await runtime.dead_letters.redrive(letter_id)


def dead_letters_come_to_life(world: World) -> None:
    FAILURES.clear()
    world.publish(Begin("d-1"))
    world.any_order(AskFor("d-1", 0), AskFor("d-1", 1))
    with suppress(HandlerFailed):
        world.send(Mended, "d-1", Count("d-1", 2, fails=BROKEN), message_id="d-1/2")
    world.advance(minutes=1)
    letters = world.dead_letters()
    jobs = Counter(letter.message_id for letter in letters if letter.queue)
    assert sorted(jobs.values()) == [1, 1], letters
    FAILURES["mended"] = FAILURES["d-1/2"] = BROKEN
    for _ in range(8):  # both attempts may die with their processes: then it is one again
        for letter in letters:
            world.ask(partial(redrive, letter.id))
        world.advance(minutes=1)
        letters = world.dead_letters()
    assert not letters, letters
    numbers = world.state(Mended, "d-1").numbers
    assert sorted(numbers) == [0, 1, 2], numbers


# Told, without waiting: applied or a dead letter while the process lives, and never twice


class Told(Counting):
    name = "sim.told"


def what_is_told_is_not_lost(world: World) -> None:
    world.publish(Begin("t-1"))
    told: list[int] = []

    async def tell(runtime: Runtime) -> bool:
        ref, first = runtime.ref(Told, "t-1"), 100 * len(told)
        for number in range(first, first + 6):
            try:
                ref.tell(Count("t-1", number))
            except MailboxFull:
                continue
            told.append(number)
        return True

    world.ask(tell)
    world.advance(seconds=20)
    numbers = world.state(Told, "t-1").numbers
    assert len(set(numbers)) == len(numbers), numbers
    assert set(numbers) <= set(told), (numbers, told)
    if not world.machine.graveyard and len(world.machine.processes) == 1:
        dead = [letter.content.number for letter in world.dead_letters()]
        # A letter whose write had no answer is written again; redriven, both are one message.
        assert sorted([*numbers, *set(dead)]) == told, (numbers, dead, told)


# A poisoned message ends its instance, with its dead letter, in one commit


class Stopped(Counting):
    name = "sim.stopped"
    supervision = Supervision.stop()


def poison_ends_its_instance(world: World) -> None:
    FAILURES.clear()
    world.publish(Begin("x-1"))
    world.publish(Count("x-1", 0))
    with suppress(HandlerFailed):
        world.send(Stopped, "x-1", Count("x-1", 1, fails=-1), message_id="x-1/1")
    with suppress(InstanceFinished):
        world.publish(Count("x-1", 2))
    world.advance(seconds=20)
    view = world.instance(Stopped, "x-1")
    assert view is not None
    assert (view.status, view.state.numbers) == ("failed", (0,)), view
    assert [letter.message_id for letter in world.dead_letters()] == ["x-1/1"]


# A trip that is called off in the middle: it ends whole, or all that was done is undone


def called_off(world: World) -> None:
    async def cancel(runtime: Runtime) -> bool:
        try:
            await runtime.cancel(runtime.ref(trip, "off"), message_id="call it off")
        except (InstanceFinished, InstanceNotFound):
            return False
        return True

    delay_s = world.machine.choices.spread("called off", 0.001, 0.05)
    world.calls.make(Call("a cancel", cancel, is_send=False), delay_s)
    world.publish(Trip("off"))
    world.advance(hours=1)
    view = world.instance(trip, "off")
    assert view is not None
    first: dict[str, Any] = {}
    for effect in world.effects.all:
        first.setdefault(effect.key, effect.what)
    booked = [what for what in first.values() if what in UNDOING]
    undone = [what for what in first.values() if what in UNDOING.values()]
    if view.status == "completed":
        assert not undone, first
    else:
        assert sorted(undone) == sorted(UNDOING[what] for what in booked), first
        assert not undone or undone[-1] == "cancel h-1", first


# An event at the very moment at which nobody waits for it any more: it counts, or it does not


@message(name="sim.knock")
class Knock:
    id: str


LIMIT_S = 5.0


@workflow("sim.door", Begin, by="id", steps=[write], events={Knock: "id"})
async def door(ctx: Context, begin: Begin) -> bool:
    knock = await ctx.wait_event(Knock, timeout=timedelta(seconds=LIMIT_S))
    await ctx.step(write, "late" if knock is None else "in time")
    return knock is not None


def somebody_knocks_at_the_limit(world: World) -> None:
    world.publish(Begin("w-1"))
    off_s = 0.02 * (world.machine.choices.number("off") - 0.5)
    world.machine.run(lambda: False, world.machine.now_ns + int((LIMIT_S + off_s) * 1e9))
    world.publish(Knock("w-1"))
    world.advance(minutes=5)
    view = world.instance(door, "w-1")
    assert view is not None
    assert view.status == "completed", view
    assert world.effects.once() == ["in time" if view.result else "late"], (view, world.effects.all)


# Messages may pass one that waits for its retry: each is applied once all the same


class Passing(Counting):
    name = "sim.passing"
    retry = Fixed(0.5, max_attempts=None)
    lets_pass = True


def some_pass_others(world: World) -> None:
    FAILURES.clear()
    world.publish(Begin("l-1"))
    fails = {1: 3, 4: 1}
    for number in range(6):
        world.publish(Count("l-1", number, fails.get(number, 0)))
    world.advance(minutes=1)
    numbers = world.state(Passing, "l-1").numbers
    assert sorted(numbers) == list(range(6)), numbers
    assert not world.dead_letters()


REPAIRS: dict[str, tuple[Callable[[World], None], list[Any]]] = {
    "redrive": (dead_letters_come_to_life, [Mended, mending]),
    "told": (what_is_told_is_not_lost, [Told]),
    "stop": (poison_ends_its_instance, [Stopped]),
    "cancel": (called_off, [trip]),
    "limit": (somebody_knocks_at_the_limit, [door]),
    "passing": (some_pass_others, [Passing]),
}
"""Scenarios and what they are about, by name."""
