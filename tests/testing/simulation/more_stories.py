"""Further scenarios: children, strict order, commands that may not be repeated, audiences, timers.

As ``stories.py``, which comes first.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta

from perdure import (
    ChildEnded,
    CommandFailed,
    Effects,
    Fixed,
    Job,
    NonRetryable,
    OrderedSaga,
    ProcessManager,
    Settings,
    WorkQueue,
    applies,
    continues,
    message,
    on_child_ended,
    on_command_failed,
    on_deadline,
    starts,
)
from perdure.testing import Faults, Ledger, Simulation, World, simulate

# Children: a parent waits for three, one of which fails


@message(name="sim.begun")
class Begun:
    id: str


@message(name="sim.errand-for")
class ErrandFor:
    id: str
    fails: bool = False


@message(name="sim.work")
class Work:
    id: str


@message(name="sim.worked")
class Worked:
    id: str


@dataclass(frozen=True)
class ParentState:
    ended: tuple[str, ...] = ()


@dataclass(frozen=True)
class ChildState: ...


class Child(ProcessManager[ChildState]):
    name = "sim.child"

    @starts(ErrandFor, by="id")
    def begins(self, state: ChildState, event: ErrandFor, do: Effects) -> None:
        if event.fails:
            do.fail("does not want to")
        else:
            do.send(Work(do.metadata.instance_id))

    @continues(Worked, by="id")
    def ends(self, state: ChildState, event: Worked, do: Effects) -> None:
        do.complete()


class Parent(ProcessManager[ParentState]):
    name = "sim.parent"

    @starts(Begun, by="id")
    def begun(self, state: ParentState, event: Begun, do: Effects) -> None:
        for name in ("a", "b", "c"):
            do.start_child(name, Child, ErrandFor("", fails=name == "b"))

    @on_child_ended()
    def one_ended(self, state: ParentState, ended: ChildEnded, do: Effects) -> None:
        if len(state.ended) == 3:
            do.complete()

    @applies(ChildEnded)
    def fold_ended(self, state: ParentState, event: ChildEnded) -> ParentState:
        return replace(state, ended=(*state.ended, f"{event.name} {event.status}"))


working = WorkQueue("sim.working", retry=Fixed(0.5, max_attempts=None))


@working.worker
async def work(command: Work, job: Job, effects: Ledger) -> Worked:
    effects.note(job.key, command.id)
    return Worked(command.id)


def children_end_once(world: World) -> None:
    world.any_order(Begun("p-1"), Begun("p-2"))
    world.advance(hours=1)
    for id_ in ("p-1", "p-2"):
        view = world.instance(Parent, id_)
        assert view is not None
        assert view.status == "completed", view
        assert sorted(view.state.ended) == ["a completed", "b failed", "c completed"], view


# A sequential queue with a short lease: first attempts, and ends, in the order of sending


@message(name="sim.ordered")
class Ordered:
    id: str
    count: int


@message(name="sim.next")
class Next:
    id: str
    number: int


@message(name="sim.was-done")
class WasDone:
    id: str
    number: int


@dataclass(frozen=True)
class OneByOneState:
    done: tuple[int, ...] = ()


class OneByOne(ProcessManager[OneByOneState]):
    name = "sim.one-by-one"

    @starts(Ordered, by="id")
    def ordered(self, state: OneByOneState, event: Ordered, do: Effects) -> None:
        for number in range(event.count):
            do.send(Next(event.id, number))

    @continues(WasDone, by="id")
    def was_done(self, state: OneByOneState, event: WasDone, do: Effects) -> None: ...

    @applies(WasDone)
    def fold_done(self, state: OneByOneState, event: WasDone) -> OneByOneState:
        return replace(state, done=(*state.done, event.number))


in_order = WorkQueue(
    "sim.in-order", sequential=True, lease_s=2.0, retry=Fixed(0.3, max_attempts=None)
)


@in_order.worker
def do_next(command: Next, job: Job, effects: Ledger) -> WasDone:
    if command.number == 1 and job.attempt == 1:
        raise OSError("nobody answers")
    effects.note(job.key, command.number)
    return WasDone(command.id, command.number)


def one_after_another(world: World) -> None:
    world.publish(Ordered("s-1", 5))
    world.advance(hours=1)
    firsts = world.effects.once()
    assert firsts == sorted(firsts), world.effects.all
    assert world.state(OneByOne, "s-1").done == (0, 1, 2, 3, 4)


# Commands that may not be repeated once nobody knows how an attempt has ended


@message(name="sim.pay-once")
class PayOnce:
    id: str


@message(name="sim.paid-once")
class PaidOnce:
    id: str


@dataclass(frozen=True)
class OnceState:
    end: str = ""


class Once(ProcessManager[OnceState]):
    name = "sim.once"

    @starts(Begun, by="id")
    def begun(self, state: OnceState, event: Begun, do: Effects) -> None:
        do.send(PayOnce(event.id))

    @continues(PaidOnce, by="id")
    def paid(self, state: OnceState, event: PaidOnce, do: Effects) -> None: ...

    @on_command_failed(PayOnce)
    def not_paid(self, state: OnceState, failed: CommandFailed, do: Effects) -> None: ...

    @applies(PaidOnce)
    def fold_paid(self, state: OnceState, event: PaidOnce) -> OnceState:
        return OnceState(f"{state.end}paid")

    @applies(CommandFailed)
    def fold_failed(self, state: OnceState, event: CommandFailed) -> OnceState:
        return OnceState(f"{state.end}{event.reason}, unknown: {event.is_unknown}")


paying = WorkQueue("sim.paying", repeat_unknown=False, retry=Fixed(1, max_attempts=3), lease_s=3)


@paying.worker
async def pay(command: PayOnce, job: Job, effects: Ledger) -> PaidOnce:
    effects.note(job.key, command.id)
    return PaidOnce(command.id)


def paid_once_or_nobody_knows(world: World) -> None:
    world.any_order(*(Begun(f"once-{number}") for number in range(4)))
    world.advance(hours=1)
    for number in range(4):
        end = world.state(Once, f"once-{number}").end
        assert end in ("paid", "unknown, unknown: True"), end
    assert set(world.effects.count().values()) <= {1}, world.effects.all
    assert len(world.effects.all) >= sum(
        world.state(Once, f"once-{number}").end == "paid" for number in range(4)
    )


# An event with an audience, and timers that are set again and again


@message(name="sim.touched")
class Touched:
    id: str
    number: int


@message(name="sim.abandoned")
class Abandoned:
    id: str
    touches: int


@dataclass(frozen=True)
class CartState:
    touches: tuple[int, ...] = ()
    abandoned: tuple[int, ...] = ()


class Cart(ProcessManager[CartState]):
    name = "sim.cart"

    @starts(Touched, by="id")
    def touched(self, state: CartState, event: Touched, do: Effects) -> None:
        do.deadline("idle", timedelta(seconds=5 + event.number % 2))

    @on_deadline("idle")
    def idle(self, state: CartState, do: Effects) -> None:
        do.record(Abandoned(do.metadata.instance_id, len(state.touches)))
        do.publish(Abandoned(do.metadata.instance_id, len(state.touches)))

    @applies(Touched)
    def fold_touched(self, state: CartState, event: Touched) -> CartState:
        return replace(state, touches=(*state.touches, event.number))

    @applies(Abandoned)
    def fold_abandoned(self, state: CartState, event: Abandoned) -> CartState:
        return replace(state, abandoned=(*state.abandoned, event.touches))


class Wishes(ProcessManager[CartState]):
    """Hears of abandoned carts, too."""

    name = "sim.wishes"

    @starts(Abandoned, by="id")
    def abandoned(self, state: CartState, event: Abandoned, do: Effects) -> None: ...

    @applies(Abandoned)
    def fold_abandoned(self, state: CartState, event: Abandoned) -> CartState:
        return replace(state, abandoned=(*state.abandoned, event.touches))


first_audience = WorkQueue("sim.first", retry=Fixed(1, max_attempts=None))
second_audience = WorkQueue("sim.second", retry=Fixed(1, max_attempts=None))


@first_audience.subscriber
def hear_first(event: Abandoned, job: Job, effects: Ledger) -> None:
    effects.note(job.key, ("first", event.id, event.touches))


@second_audience.subscriber
async def hear_second(event: Abandoned, job: Job, effects: Ledger) -> None:
    effects.note(job.key, ("second", event.id, event.touches))


def carts_are_abandoned(world: World) -> None:
    carts = ("c-1", "c-2")
    world.any_order(*(Touched(cart, number) for cart in carts for number in range(3)))
    world.advance(seconds=20)
    world.any_order(*(Touched(cart, 3) for cart in carts))
    world.advance(hours=1)
    for cart in carts:
        state = world.state(Cart, cart)
        assert sorted(state.touches) == [0, 1, 2, 3], state
        assert state.abandoned[-1] == 4, state
        assert len(state.abandoned) == len(set(state.abandoned)), state
        wishes = world.state(Wishes, cart).abandoned
        assert sorted(wishes) == sorted(state.abandoned), (wishes, state)
        for audience in ("first", "second"):
            heard = [what[2] for what in world.effects.once() if what[:2] == (audience, cart)]
            assert sorted(heard) == sorted(state.abandoned), (audience, heard, state)


# Repair: what is stuck is resumed, dead letters are redriven, one is cancelled, an end is awaited


@message(name="sim.hike")
class Hike:
    id: str
    fails: bool = False


@dataclass
class Weather:
    """The outside: it is bad until somebody says otherwise."""

    is_good: bool = False


WEATHER: list[Weather] = []
"""That of the run."""


def weather_of(world: World) -> dict[str, Weather]:
    WEATHER[:] = [Weather()]
    return {"weather": WEATHER[0]}


hike = OrderedSaga("sim.hike", Hike, by="id")


@hike.step(retry=Fixed(0.2, max_attempts=None))
async def hut(hike: Hike, job: Job, effects: Ledger) -> None:
    effects.note(job.key, "hut")


@hike.compensates(hut, retry=Fixed(0.2, max_attempts=None))
async def cancel_hut(hike: Hike, job: Job, effects: Ledger, weather: Weather) -> None:
    if not weather.is_good:
        raise NonRetryable("the line is dead")
    effects.note(job.key, "cancel hut")


@hike.step(retry=Fixed(0.2, max_attempts=None), nothing_to_undo=True)
def climb(hike: Hike, job: Job, effects: Ledger) -> None:
    if hike.fails:
        raise NonRetryable("too steep")
    effects.note(job.key, "climb")


watching = WorkQueue("sim.watching", retry=Fixed(0.1, max_attempts=None))


@watching.worker
async def watch(command: Work, job: Job, effects: Ledger, weather: Weather) -> None:
    if not weather.is_good:
        raise NonRetryable("cannot see")
    effects.note(job.key, command.id)


def somebody_sees_to_it(world: World) -> None:
    world.any_order(Hike("up"), Hike("down", fails=True))
    jobs = {world.enqueue(Work(f"w-{number}")) for number in range(3)}
    world.advance(minutes=5)
    stuck = world.instance(hike, "down")
    assert stuck is not None
    assert stuck.status == "stuck", stuck
    assert {letter.queue for letter in world.dead_letters()} >= {"sim.watching"}
    WEATHER[0].is_good = True
    world.ask(lambda runtime: runtime.resume(runtime.ref(hike, "down"), message_id="go on"))
    world.ask(lambda runtime: runtime.dead_letters.redrive_all(queue=watching))
    world.ask(lambda runtime: runtime.dead_letters.redrive_all(queue=watching))
    world.advance(minutes=5)
    up, down = world.instance(hike, "up"), world.instance(hike, "down")
    assert up is not None
    assert down is not None
    assert (up.status, down.status) == ("completed", "failed"), (up, down)
    assert world.ask(lambda runtime: runtime.result(runtime.ref(hike, "up"))) == Hike("up")
    assert set(world.effects.once()) == {"hut", "climb", "cancel hut", "w-0", "w-1", "w-2"}
    assert jobs <= set(world.effects.count())
    assert not world.dead_letters()


SMALL = Settings(snapshot_every=2, idle_after_s=3)


def more_stories(faults: Faults | None = None) -> dict[str, Simulation]:
    """All of them, by name."""
    carts = [Cart, Wishes, first_audience, second_audience]
    return {
        "children": simulate(children_end_once, [Parent, Child, working], faults=faults),
        "sequential": simulate(one_after_another, [OneByOne, in_order], faults=faults),
        "once": simulate(paid_once_or_nobody_knows, [Once, paying], faults=faults),
        "repair": simulate(
            somebody_sees_to_it, [hike, watching], resources=weather_of, faults=faults
        ),
        "carts": simulate(carts_are_abandoned, carts, settings=SMALL, faults=faults),
    }
