"""What a saga publishes reaches the other sagas and the subscribers; a command may go to a saga."""

from dataclasses import dataclass, replace

import pytest

from perdure import (
    Effects,
    Job,
    MemoryStore,
    NonRetryable,
    ProcessManager,
    Runtime,
    SqlStore,
    WorkQueue,
    applies,
    continues,
    message,
    starts,
)
from perdure.testing import FaultyStore
from tests.runtime.support import quickly


@message(name="published-test.bought")
class Bought:
    id: str


@message(name="published-test.sold")
class Sold:
    id: str
    buyers: tuple[str, ...] = ()


@message(name="published-test.quote")
class Quote:
    id: str


@message(name="published-test.quoted")
class Quoted:
    id: str
    price: int


@dataclass(frozen=True)
class State:
    heard: tuple[str, ...] = ()


class Seller(ProcessManager[State]):
    """Its result is what it decided: that something was sold."""

    name = "published-test.seller"

    @starts(Bought, by="id")
    def bought(self, state: State, event: Bought, do: Effects) -> None:
        do.complete(Sold(event.id, ("b-1", "b-2")))


class Buyer(ProcessManager[State]):
    name = "published-test.buyer"

    @starts(Sold, by=lambda event: list(event.buyers))
    def sold(self, state: State, event: Sold, do: Effects) -> None: ...

    @applies(Sold)
    def fold(self, state: State, event: Sold) -> State:
        return replace(state, heard=(*state.heard, event.id))


class Asker(ProcessManager[State]):
    name = "published-test.asker"

    @starts(Bought, by="id")
    def asked(self, state: State, event: Bought, do: Effects) -> None:
        do.send(Quote(event.id))

    @continues(Quoted, by="id")
    def quoted(self, state: State, event: Quoted, do: Effects) -> None: ...

    @applies(Quoted)
    def fold(self, state: State, event: Quoted) -> State:
        return replace(state, heard=(*state.heard, str(event.price)))


class Quoter(ProcessManager[State]):
    name = "published-test.quoter"

    @starts(Quote, by="id")
    def quote(self, state: State, event: Quote, do: Effects) -> None:
        do.reply(Quoted(event.id, 7))


@pytest.fixture(params=["memory", "sqlite"])
def store(request, tmp_path):
    if request.param == "memory":
        return FaultyStore(MemoryStore())
    return FaultyStore(SqlStore(f"sqlite+aiosqlite:///{tmp_path}/e.db", synchronous="NORMAL"))


def audit(heard, name="audit"):
    queue = WorkQueue(name)

    @queue.subscriber
    def record(event: Sold) -> None:
        heard.append((name, event.id))

    return queue


async def heard_by(runtime, saga, id):
    view = await runtime.state(runtime.ref(saga, id))
    return () if view is None else view.state.heard


@quickly
async def test_a_sagas_result_reaches_the_interested_instances_and_every_subscriber(store):
    heard: list[tuple[str, str]] = []
    queues = [audit(heard), audit(heard, "mail")]
    async with Runtime(store, [Seller, Buyer, *queues]) as runtime:
        await runtime.publish(Bought("s-1"))
        await runtime.settled()
        assert await heard_by(runtime, Buyer, "b-1") == ("s-1",)
        assert await heard_by(runtime, Buyer, "b-2") == ("s-1",)
        assert sorted(heard) == [("audit", "s-1"), ("mail", "s-1")]
        assert await store.inner.outbox() == []


@quickly
async def test_a_subscriber_that_fails_does_not_keep_the_others_from_hearing():
    heard: list[tuple[str, str]] = []
    broken = WorkQueue("broken")

    @broken.subscriber
    def record(event: Sold) -> None:
        raise NonRetryable("no disk")

    async with Runtime("memory://", [Seller, Buyer, broken, audit(heard)]) as runtime:
        await runtime.publish(Bought("s-1"))
        await runtime.settled()
        assert heard == [("audit", "s-1")]
        assert await heard_by(runtime, Buyer, "b-1") == ("s-1",)
        found = [letter async for letter in runtime.dead_letters.list()]
        assert [(letter.queue, letter.content.id) for letter in found] == [("broken", "s-1")]


@quickly
async def test_an_event_from_outside_reaches_the_subscribers_too(store):
    heard: list[tuple[str, str]] = []
    async with Runtime(store, [Buyer, audit(heard)]) as runtime:
        await runtime.publish(Sold("s-1", ("b-1",)), message_id="m-1")
        await runtime.settled()
        assert await heard_by(runtime, Buyer, "b-1") == ("s-1",)
    assert heard == [("audit", "s-1")]


@quickly
async def test_a_command_that_a_saga_takes_is_answered_to_the_saga_that_sent_it(store):
    async with Runtime(store, [Asker, Quoter]) as runtime:
        await runtime.publish(Bought("q-1"))
        await runtime.settled()
        assert await heard_by(runtime, Asker, "q-1") == ("7",)
        assert await store.inner.outbox() == []


@quickly
async def test_events_nobody_wants_leave_no_trace_in_the_outbox(store):
    async with Runtime(store, [Seller]) as runtime:
        await runtime.publish(Bought("s-1"))
        await runtime.settled()
        assert await store.inner.outbox() == []


@message(name="published-test.rumour")
class Rumour:
    id: str
    listeners: tuple[str, ...]


@message(name="published-test.whisper")
class Whisper:
    id: str


class Gossip(ProcessManager[State]):
    """Publishes the very event that starts it; completes with the very event that it hears."""

    name = "published-test.gossip"

    @starts(Rumour, by=lambda event: list(event.listeners))
    def rumoured(self, state: State, event: Rumour, do: Effects) -> None:
        if do.metadata.instance_id == event.id:
            do.publish(event)

    @starts(Bought, by="id")
    def bought(self, state: State, event: Bought, do: Effects) -> None:
        do.send(Whisper(event.id))

    @continues(Sold, by="id")
    def sold(self, state: State, event: Sold, do: Effects) -> None:
        do.complete(event)

    @applies(Rumour, Sold)
    def fold(self, state: State, event: Rumour | Sold) -> State:
        return replace(state, heard=(*state.heard, event.id))


def whisperers():
    queue = WorkQueue("whisperers")

    @queue.worker
    def whisper(command: Whisper, job: Job) -> None:
        job.emit(Rumour("by the worker", (command.id,)))

    return queue


@pytest.mark.parametrize("others", [(), ("b",), ("b", "c")])
@quickly
async def test_what_an_instance_publishes_reaches_others_of_its_saga_and_not_itself(store, others):
    async with Runtime(store, [Gossip]) as runtime:
        await runtime.publish(Rumour("a", ("a", *others)))
        await runtime.settled()
        assert await heard_by(runtime, Gossip, "a") == ("a",)
        for other in others:
            assert await heard_by(runtime, Gossip, other) == ("a", "a")
        assert await store.inner.outbox() == []


@quickly
async def test_the_event_it_completes_with_does_not_come_back_to_it(store):
    heard: list[tuple[str, str]] = []
    async with Runtime(store, [Gossip, Buyer, audit(heard)]) as runtime:
        await runtime.publish(Rumour("a", ("a",)))
        await runtime.send(runtime.ref(Gossip, "a"), Sold("a", ("b-1",)))
        await runtime.settled()
        turns = [turn.type async for turn in runtime.history(runtime.ref(Gossip, "a"))]
        assert turns == ["published-test.rumour", "published-test.sold"]
        assert await heard_by(runtime, Buyer, "b-1") == ("a",)
        assert heard == [("audit", "a")]
        assert await store.inner.outbox() == []


@quickly
async def test_what_a_worker_emits_reaches_also_the_instance_that_sent_its_command(store):
    async with Runtime(store, [Gossip, whisperers()]) as runtime:
        await runtime.publish(Bought("a"))
        await runtime.settled()
        assert await heard_by(runtime, Gossip, "a") == ("by the worker",)
