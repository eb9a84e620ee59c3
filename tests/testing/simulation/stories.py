"""Scenarios over every kind of saga, and what must be true at their ends. Names begin "sim.".

``STORIES`` holds them all, by name; each is a ``Simulation`` under the faults of a swarm.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta

from perdure import (
    CommandFailed,
    Context,
    Effects,
    Every,
    Exponential,
    Fixed,
    Job,
    NonRetryable,
    OrderedSaga,
    Park,
    ProcessManager,
    RetryLater,
    Schedule,
    Settings,
    WorkQueue,
    applies,
    compensates,
    continues,
    message,
    on_deadline,
    starts,
    step,
    workflow,
)
from perdure.errors import StepFailed
from perdure.testing import Faults, Ledger, Simulation, World, simulate

DAY = timedelta(days=1)


# An order: events in any order, one command, a deadline


@message(name="sim.placed")
class Placed:
    id: str
    amount: int


@message(name="sim.paid")
class Paid:
    id: str


@message(name="sim.reserved")
class Reserved:
    id: str


@message(name="sim.ship")
class Ship:
    id: str


@message(name="sim.shipped")
class Shipped:
    id: str


@dataclass(frozen=True)
class OrderState:
    paid: int = 0
    reserved: int = 0
    shipped: int = 0
    reminded: int = 0

    @property
    def status(self) -> str:
        return "shipped" if self.shipped else "open"


class Order(ProcessManager[OrderState]):
    name = "sim.order"
    on_missing = Park(for_s=60)

    @starts(Placed, by="id")
    def placed(self, state: OrderState, event: Placed, do: Effects) -> None:
        do.deadline("remind", 30 * DAY)

    @continues(Paid, Reserved, by="id")
    def one_more(self, state: OrderState, event: Paid | Reserved, do: Effects) -> None:
        if state.paid and state.reserved:
            do.send(Ship(event.id))

    @continues(Shipped, by="id")
    def is_shipped(self, state: OrderState, event: Shipped, do: Effects) -> None: ...

    @on_deadline("remind")
    def remind(self, state: OrderState, do: Effects) -> None:
        do.record(Reminded())

    @applies(Paid)
    def fold_paid(self, state: OrderState, event: Paid) -> OrderState:
        return replace(state, paid=state.paid + 1)

    @applies(Reserved)
    def fold_reserved(self, state: OrderState, event: Reserved) -> OrderState:
        return replace(state, reserved=state.reserved + 1)

    @applies(Shipped)
    def fold_shipped(self, state: OrderState, event: Shipped) -> OrderState:
        return replace(state, shipped=state.shipped + 1)


@message(name="sim.reminded")
class Reminded: ...


shipping = WorkQueue("sim.shipping", retry=Fixed(1, max_attempts=None))  # through all crashes


@shipping.worker
async def ship(command: Ship, job: Job, effects: Ledger) -> Shipped:
    effects.note(job.key, command.id)
    return Shipped(command.id)


def paid_in_any_order(world: World) -> None:
    world.publish(Placed("o-1", 100))
    world.any_order(Paid("o-1"), Reserved("o-1"))
    world.advance(days=90)
    state = world.state(Order, "o-1")
    assert state == OrderState(1, 1, 1), state
    assert len(world.effects.once()) == 1


def placed_last(world: World) -> None:
    """What comes before its instance is there is parked for it."""
    world.any_order(Placed("o-1", 100), Paid("o-1"), Reserved("o-1"))
    world.advance(minutes=10)
    assert world.state(Order, "o-1") == OrderState(1, 1, 1)
    assert not world.dead_letters()


# Lists: nothing here is idempotent, and order shows


@message(name="sim.opened")
class Opened:
    id: str


@message(name="sim.added")
class Added:
    id: str
    number: int


@message(name="sim.passed-on")
class PassedOn:
    id: str
    number: int


@dataclass(frozen=True)
class ListState:
    numbers: tuple[int, ...] = ()
    got: tuple[int, ...] = ()
    struck: int = 0


class List(ProcessManager[ListState]):
    """Each number goes on to the list of the next id, and is noted there, and by a worker."""

    name = "sim.list"

    @starts(Opened, by="id")
    def opened(self, state: ListState, event: Opened, do: Effects) -> None: ...

    @continues(Added, by="id")
    def added(self, state: ListState, event: Added, do: Effects) -> None:
        do.reply(len(state.numbers))
        do.publish(PassedOn(f"l-{(int(event.id[2:]) + 1) % LISTS}", event.number))
        do.deadline("rest", timedelta(milliseconds=50))

    @continues(PassedOn, by="id")
    def passed_on(self, state: ListState, event: PassedOn, do: Effects) -> None:
        do.send(Ship(str(event.number)))

    @on_deadline("rest")
    def rest(self, state: ListState, do: Effects) -> None: ...

    @applies(Added)
    def fold_added(self, state: ListState, event: Added) -> ListState:
        return replace(state, numbers=(*state.numbers, event.number))

    @applies(PassedOn)
    def fold_passed_on(self, state: ListState, event: PassedOn) -> ListState:
        return replace(state, got=(*state.got, event.number))


LISTS = 3
NUMBERS = 8


def numbers_go_round(world: World) -> None:
    for index in range(LISTS):
        world.publish(Opened(f"l-{index}"))
    sent = [Added(f"l-{n % LISTS}", n) for n in range(NUMBERS)]
    receipts = world.any_order(*sent)
    world.advance(minutes=5)
    for index in range(LISTS):
        state = world.state(List, f"l-{index}")
        mine = [n for n in range(NUMBERS) if n % LISTS == index]
        before = [n for n in range(NUMBERS) if n % LISTS == (index - 1) % LISTS]
        assert sorted(state.numbers) == mine, state
        assert sorted(state.got) == before, state
        for number in mine:
            [receipt] = receipts[number]
            assert state.numbers[receipt.reply - 1] == number, (receipt, state)
    assert sorted(world.effects.once()) == sorted(map(str, range(NUMBERS)))


# A trip: steps, and their undoing


@message(name="sim.trip")
class Trip:
    id: str
    fails_at: str = ""
    hotel: str = ""


trip = OrderedSaga("sim.trip", Trip, by="id", timeout=timedelta(days=3))
AGAIN = Exponential(0.1, max_s=5, max_attempts=None)


def book(what: str, trip: Trip, job: Job, effects: Ledger) -> None:
    if trip.fails_at == what:
        raise NonRetryable(f"no {what}")
    effects.note(job.key, what)


@trip.step(retry=AGAIN)
async def hotel(trip: Trip, job: Job, effects: Ledger) -> dict[str, str]:
    book("hotel", trip, job, effects)
    return {"hotel": "h-1"}


@trip.compensates(hotel, retry=AGAIN)
async def cancel_hotel(trip: Trip, job: Job, effects: Ledger) -> None:
    effects.note(job.key, f"cancel {trip.hotel}")


@trip.step(retry=AGAIN, parallel="transport")
def flight(trip: Trip, job: Job, effects: Ledger) -> None:
    book("flight", trip, job, effects)


@trip.compensates(flight, retry=AGAIN)
def cancel_flight(trip: Trip, job: Job, effects: Ledger) -> None:
    effects.note(job.key, "cancel flight")


@trip.step(retry=AGAIN, parallel="transport")
async def car(trip: Trip, job: Job, effects: Ledger) -> None:
    book("car", trip, job, effects)


@trip.compensates(car, retry=AGAIN)
async def cancel_car(trip: Trip, job: Job, effects: Ledger) -> None:
    effects.note(job.key, "cancel car")


@trip.step(retry=AGAIN, nothing_to_undo=True)
async def insure(trip: Trip, job: Job, effects: Ledger) -> None:
    book("insurance", trip, job, effects)


UNDOING = {"hotel": "cancel h-1", "flight": "cancel flight", "car": "cancel car"}


def trips_end_whole_or_undone(world: World) -> None:
    for fails_at in ("", "hotel", "car", "insurance"):
        world.publish(Trip(fails_at or "good", fails_at))
    world.advance(hours=2)
    for fails_at in ("", "hotel", "car", "insurance"):
        view = world.instance(trip, fails_at or "good")
        assert view is not None
        first: dict[str, str] = {}
        for effect in world.effects.all:
            first.setdefault(effect.key, effect.what)
        mine = f"sim.trip/{fails_at or 'good'}/"
        done = [what for key, what in first.items() if key.startswith(mine)]
        if not fails_at:
            assert view.status == "completed", view
            assert set(done) == {"hotel", "flight", "car", "insurance"}, done
            continue
        assert view.status == "failed", view
        booked = [what for what in done if what in UNDOING]
        undone = [what for what in done if what not in UNDOING]
        assert sorted(undone) == sorted(UNDOING[what] for what in booked), done
        assert not undone or undone[-1] == "cancel h-1", done


# A workflow that waits for months


@message(name="sim.signed-up")
class SignedUp:
    id: str


@message(name="sim.logged-in")
class LoggedIn:
    id: str


@step(retry=AGAIN)
async def create(user: SignedUp, job: Job, effects: Ledger) -> str:
    effects.note(job.key, "create")
    return f"account of {user.id}"


@step(retry=Fixed(1, max_attempts=None))
def write(text: str, job: Job, effects: Ledger) -> None:
    effects.note(job.key, text)


@step(retry=Fixed(60, max_attempts=None))
async def charge(account: str, job: Job, effects: Ledger) -> int:
    if job.attempt == 1:
        raise RetryLater("not now", after_s=3600)
    effects.note(job.key, "charge")
    return 9


@workflow(
    "sim.onboarding",
    SignedUp,
    by="id",
    steps=[create, write, charge],
    events={LoggedIn: "id"},
    timeout=365 * DAY,
)
async def onboarding(ctx: Context, user: SignedUp) -> int:
    account = await ctx.step(create, user)
    await ctx.gather(
        ctx.step(write, "welcome", key="welcome"), ctx.step(write, "rules", key="rules")
    )
    if await ctx.wait_event(LoggedIn, timeout=30 * DAY) is None:
        await ctx.step(write, "we miss you", key="miss")
        return 0
    paid = 0
    for month in range(2):
        await ctx.sleep("month", days=30, key=month)
        try:
            paid += await ctx.step(charge, account, key=month)
        except StepFailed:
            paid -= 1000
    return paid


def users_come_or_do_not(world: World) -> None:
    world.any_order(SignedUp("ann"), SignedUp("bob"))
    world.advance(days=3)
    world.publish(LoggedIn("ann"))
    world.advance(days=120)
    ann, bob = world.instance(onboarding, "ann"), world.instance(onboarding, "bob")
    assert ann is not None
    assert bob is not None
    assert (ann.status, ann.result) == ("completed", 18), ann
    assert (bob.status, bob.result) == ("completed", 0), bob
    wanted = ["create", "welcome", "rules", "charge", "charge"]
    wanted += ["create", "welcome", "rules", "we miss you"]
    assert sorted(world.effects.once()) == sorted(wanted)


# A queue: jobs that fail for a while, and for good


@message(name="sim.task")
class Task:
    id: str
    fails: int = 0


@message(name="sim.ended")
class Ended:
    id: str


tasks = WorkQueue("sim.tasks", retry=Fixed(1, max_attempts=None), concurrency=2)


@tasks.worker
def perform(command: Task, job: Job, effects: Ledger) -> None:
    if job.attempt <= command.fails:
        raise ValueError("not yet")
    effects.note(job.key, command.id)


def tasks_are_done(world: World) -> None:
    ids = [world.enqueue(Task(f"t-{n}", fails=n % 3)) for n in range(6)]
    world.advance(minutes=10)
    assert set(ids) == set(world.effects.count())
    assert not world.dead_letters()


# Compensation of a process manager, and a schedule


@message(name="sim.asked")
class Asked:
    id: str


@message(name="sim.do")
class Do:
    id: str


@message(name="sim.undo")
class Undo:
    id: str


@dataclass(frozen=True)
class ErrandState:
    failed: int = 0


class Errand(ProcessManager[ErrandState]):
    name = "sim.errand"

    @starts(Asked, by="id")
    def asked(self, state: ErrandState, event: Asked, do: Effects) -> None:
        do.send(Do(event.id))

    @compensates(Do)
    def undo(self, state: ErrandState, failed: Do) -> list[Undo]:
        return [Undo(failed.id)]

    @applies(CommandFailed)
    def fold_failed(self, state: ErrandState, event: CommandFailed) -> ErrandState:
        return replace(state, failed=state.failed + 1)


errands = WorkQueue("sim.errands", retry=Fixed(0.01, max_attempts=3))


@errands.worker
async def do_it(command: Do, job: Job, effects: Ledger) -> None:
    raise ValueError("cannot")


undoing = WorkQueue("sim.undoing", retry=Fixed(0.01, max_attempts=None))


@undoing.worker
async def undo_it(command: Undo, job: Job, effects: Ledger) -> None:
    effects.note(job.key, command.id)


hourly = Schedule(
    "sim.hourly", Every(timedelta(hours=1)), lambda run: Asked(f"run-{run.id}")
)  # fmt: skip


def runs_fail_and_are_undone(world: World) -> None:
    world.advance(hours=4, minutes=30)

    runs = world.effects.once()
    hours = [run.partition("T")[2][:5] for run in runs]
    if "00:00" in hours:  # the wall clock was set back across the beginning
        hours.remove("00:00")
    assert sorted(hours) == ["01:00", "02:00", "03:00", "04:00"], runs
    for run in runs:
        assert world.state(Errand, run) == ErrandState(1)


SMALL = Settings(snapshot_every=3, idle_after_s=30)


def stories(faults: Faults | None = None) -> dict[str, Simulation]:
    """All of them, by name."""
    return {
        "order": simulate(paid_in_any_order, [Order, shipping], faults=faults),
        "parked": simulate(placed_last, [Order, shipping], faults=faults),
        "lists": simulate(numbers_go_round, [List, shipping], settings=SMALL, faults=faults),
        "trip": simulate(trips_end_whole_or_undone, [trip], faults=faults),
        "onboarding": simulate(users_come_or_do_not, [onboarding], faults=faults),
        "tasks": simulate(tasks_are_done, [tasks], faults=faults),
        "schedule": simulate(
            runs_fail_and_are_undone, [Errand, errands, undoing, hourly], faults=faults
        ),
    }
