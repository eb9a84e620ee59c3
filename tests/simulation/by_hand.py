"""Scenarios of repair with audit: steps and letters mended by operators, who may be two at once.

Whatever they do is done once, with all that goes with it, or not at all; the journal tells whose
it was. As ``stories.py``. Next to read: ``repairs.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from perdure import (
    Audited,
    Effects,
    Fixed,
    Job,
    NonRetryable,
    OrderedSaga,
    Runtime,
    WorkQueue,
    continues,
    message,
)
from perdure.errors import HandlerFailed, InstanceFinished, InstanceNotFound, NotRepairable
from perdure.testing import Ledger, World
from perdure.testing.simulation.calls import Call
from tests.simulation.sagas import BROKEN, FAILURES, AskFor, Begin, Count, Counting, CountState

__all__ = ["BY_HAND"]


@message(name="sim.parcel")
class Parcel:
    id: str
    packed: str = ""
    label: str = ""


RARELY = Fixed(600, max_attempts=None)

parcel = OrderedSaga("sim.parcel", Parcel, by="id")


@parcel.step(retry=Fixed(1, max_attempts=None))
async def pack(parcel: Parcel, job: Job, effects: Ledger) -> dict[str, str]:
    effects.note(job.key, "pack")
    return {"packed": "yes"}


@parcel.compensates(pack, retry=Fixed(1, max_attempts=None))
async def unpack(parcel: Parcel, job: Job, effects: Ledger) -> None:
    effects.note(job.key, "unpack")


@parcel.step(nothing_to_undo=True, retry=RARELY)
async def label(parcel: Parcel, job: Job, effects: Ledger) -> dict[str, str]:
    if not FAILURES["printer"]:
        raise ValueError("no paper")
    if FAILURES["printer"] == 2:
        raise NonRetryable("on fire")
    effects.note(job.key, "label")
    return {"label": "printed"}


@parcel.step(nothing_to_undo=True, retry=Fixed(1, max_attempts=None))
async def ship(parcel: Parcel, job: Job, effects: Ledger) -> None:
    effects.note(job.key, f"ship {parcel.label}")


async def by_hand(runtime: Runtime, who: str, do: str, *arguments: Any) -> bool:
    """One repair of the parcel; False if it does not fit how it stands, or not now."""
    repair = runtime.repair(by=who, why="no paper")
    try:
        ref = runtime.ref(parcel, "p-1")
        await getattr(repair, do)(ref, *arguments, message_id=f"{who}/{do}")
    except (NotRepairable, InstanceFinished, InstanceNotFound):
        return False
    return True


async def audit(runtime: Runtime, saga: Any, id: str) -> list[Audited]:
    return [one async for one in runtime.audit(runtime.ref(saga, id))]


def performed(world: World) -> list[str]:
    """What was done under each key, once: a worker that died may have done it twice."""
    first: dict[str, str] = {}
    for effect in world.effects.all:
        first.setdefault(effect.key, effect.what)
    return list(first.values())


def one_of_two_operators(world: World) -> None:
    FAILURES.clear()
    world.publish(Parcel("p-1"))
    world.advance(seconds=30)
    spread = world.machine.choices.spread

    async def bob(runtime: Runtime) -> bool:
        return await by_hand(runtime, "bob", "skip", "label")

    async def ann(runtime: Runtime) -> bool:
        return await by_hand(runtime, "ann", "mark_done", "label", {"label": "by pen"})

    for _ in range(8):  # a worker may be at it just then
        world.calls.make(Call("bob skips", bob, is_send=False), spread("bob", 0.000_1, 0.01))
        world.ask(ann)
        world.advance(seconds=20)
        done = world.ask(partial(audit, saga=parcel, id="p-1"))
        if done:
            break
    assert len(done) == 1, done
    view = world.instance(parcel, "p-1")
    assert view is not None
    assert view.status == "completed", view
    shipped = "ship by pen" if done[0].by == "ann" else "ship "
    assert performed(world) == ["pack", shipped], (world.effects.all, done)
    FAILURES["printer"] = 1
    world.advance(hours=2)
    is_overtaken = any(name.startswith("takeover") for name in world.plan.struck)
    if not is_overtaken:  # who was, performs what it remembers until it hears of that
        assert performed(world) == ["pack", shipped], "what was taken away was performed"


def tried_again_now(world: World) -> None:
    FAILURES.clear()
    world.publish(Parcel("p-1"))
    world.advance(seconds=30)
    FAILURES["printer"] = 1
    for _ in range(8):
        world.ask(partial(by_hand, who="ann", do="retry"))
        world.advance(seconds=20)
        view = world.instance(parcel, "p-1")
        if view is not None and view.status == "completed":
            break
    assert view is not None
    assert view.status == "completed", view
    assert performed(world) == ["pack", "label", "ship printed"], world.effects.all


def restarted_when_undone(world: World) -> None:
    FAILURES.clear()
    FAILURES["printer"] = 2
    world.publish(Parcel("p-1"))
    world.advance(minutes=2)
    view = world.instance(parcel, "p-1")
    assert view is not None
    assert view.status == "failed", view
    FAILURES["printer"] = 1

    async def restart(runtime: Runtime) -> bool:
        return await by_hand(runtime, "ann", "restart_from", "pack")

    async def too(runtime: Runtime) -> bool:
        return await by_hand(runtime, "bob", "restart_from", "pack")

    delay_s = world.machine.choices.spread("bob", 0.000_1, 0.02)
    world.calls.make(Call("bob restarts", too, is_send=False), delay_s)
    world.ask(restart)
    world.advance(minutes=5)
    view = world.instance(parcel, "p-1")
    assert view is not None
    assert view.status == "completed", view
    done = world.ask(partial(audit, saga=parcel, id="p-1"))
    assert done, "nobody restarted it"
    # Bob may have done so as well, while it was under way again: then once more, under his keys.
    packed = [effect for effect in performed(world) if effect == "pack"]
    assert 2 <= len(packed) <= 1 + len(done), (world.effects.all, done)
    assert performed(world)[-1] == "ship printed", world.effects.all
    assert sum(one == "unpack" for one in performed(world)) == 1, world.effects.all


# Letters, edited


class Edited(Counting):
    name = "sim.edited"

    @continues(AskFor, by="id")
    def asked(self, state: CountState, event: AskFor, do: Effects) -> None:
        do.send(event)


editing = WorkQueue("sim.editing", retry=Fixed(0.5, max_attempts=2))


@editing.worker
async def edit(command: AskFor, job: Job, effects: Ledger) -> Count:
    if command.number < 100:
        raise ValueError("too small")
    effects.note(job.key, command.number)
    return Count(command.id, command.number)


def letters_are_edited_once(world: World) -> None:
    FAILURES.clear()
    world.publish(Begin("e-1"))
    world.any_order(AskFor("e-1", 0), AskFor("e-1", 1))
    with suppress(HandlerFailed):
        world.send(Edited, "e-1", Count("e-1", 2, fails=BROKEN), message_id="e-1/2")
    world.advance(minutes=1)

    async def redrive(runtime: Runtime, letter: Any) -> bool:
        repair = runtime.repair(by="ann", why="too small")
        number = letter.content.number % 100 + 100
        edited = (AskFor if letter.queue else Count)("e-1", number)
        try:
            await repair.redrive(letter, edited)
        except NotRepairable as error:
            if "is not taken twice" in error.problem:  # one message, sent again, is two letters
                with suppress(NotRepairable):
                    await repair.discard(letter)
            return False
        return True

    letters = world.dead_letters()
    for _ in range(8):  # both attempts may die with their processes: then it is one again
        for letter in letters:
            again = partial(redrive, letter=letter)
            delay_s = world.machine.choices.spread("again", 0.000_1, 0.01)
            world.calls.make(Call("a second one", again, is_send=False), delay_s)
            world.ask(again)
        world.advance(minutes=1)
        letters = world.dead_letters()
    assert not letters, letters
    numbers = world.state(Edited, "e-1").numbers
    assert sorted(numbers) == [100, 101, 102], numbers
    done = world.ask(partial(audit, saga=Edited, id="e-1"))
    assert len(done) >= 3, done


BY_HAND: dict[str, tuple[Callable[[World], None], list[Any]]] = {
    "operators": (one_of_two_operators, [parcel]),
    "retried": (tried_again_now, [parcel]),
    "restarted": (restarted_when_undone, [parcel]),
    "edited": (letters_are_edited_once, [Edited, editing]),
}
"""Scenarios and what they are about, by name."""
