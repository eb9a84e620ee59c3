"""What becomes of a message, and what its sender is told."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid4

import pytest

from perdure import (
    ExternalEvent,
    Ignore,
    Outcome,
    ProcessManager,
    Runtime,
    Settings,
    Start,
    Status,
    errors,
    message,
    starts,
)
from tests.runtime.support import add, items, ledgers, open_ledger, quickly, state_of
from tests.sagas import (
    Accounts,
    Added,
    Closed,
    Club,
    Conversed,
    Dissolved,
    Founded,
    Joined,
    Ledger,
    LedgerState,
    Moved,
    Opened,
    Pair,
)


@message(name="runtime-test.meeting")
class Meeting:
    id: str
    at: datetime


@message(name="runtime-test.undirected")
class Undirected:
    id: str | None


@message(name="runtime-test.asked")
class Asked:
    verdict: str


class NeverMarked:
    id = "x"


class Diary(ProcessManager[LedgerState]):
    """Finds the instance in ways that may fail."""

    name = "Diary"

    def interested_in(self):
        return [Meeting, Undirected, Asked]

    def correlate(self, event, metadata):
        match event:
            case Meeting() | Undirected():
                return Start(event.id)
            case Asked("ignore"):
                return Ignore
            case Asked("nonsense"):
                return 42
            case Asked("several"):
                return [Start("one"), Start("two"), Start("one")]
            case Asked():
                raise KeyError("nobody")

    def handle(self, state, event, metadata):
        return None


@quickly
async def test_a_receipt_comes_after_the_commit_and_says_which_turn_it_was(store):
    async with ledgers(store) as runtime:
        (opened,) = await runtime.publish(Opened("x"), message_id="m-1")
        assert (opened.saga, opened.correlation_id, opened.message_id) == ("Ledger", "x", "m-1")
        assert (opened.outcome, opened.sequence_nr) == (Outcome.APPLIED, 1)
        assert [row.message_id for row in await store.inner.journal("Ledger/x")] == ["m-1"]
        ref = runtime.ref(Ledger, "x")
        assert [r.reply for r in await add(runtime, ref, 10, 20)] == [1, 2]
        closed = await runtime.send(ref, Closed("x"))
        assert closed.reply == "closed with 2"
        late = await runtime.send(ref, Added("x", 3))
        assert (late.outcome, late.sequence_nr, late.reply) == (Outcome.FINISHED, 5, None)
        view = await runtime.state(ref)
        assert view is not None
        assert (view.status, view.state.items) == (Status.COMPLETED, (10, 20))


@quickly
async def test_a_published_message_goes_to_every_saga_and_instance_it_is_for(store):
    async with Runtime(store, [Pair, Accounts, Ledger]) as runtime:
        receipts = await runtime.publish(Moved("a", "b", 5))
        assert sorted((r.saga, r.correlation_id) for r in receipts) == [
            ("Accounts", "a"), ("Accounts", "b"), ("Pair", "(a,b)"),
        ]  # fmt: skip
        assert (await state_of(runtime, runtime.ref(Accounts, "b"))).seen == 5
        assert (await state_of(runtime, runtime.ref(Pair, ("a", "b")))).seen == 1
        assert await runtime.state(runtime.ref(Pair, "(a,b)")) is None  # a text, not a tuple
        assert await runtime.publish(Founded("nobody is interested")) == []


@quickly
async def test_outside_events_are_plain_mappings_known_by_their_type(store):
    async with Runtime(store, [Pair]) as runtime:
        event = {"type": "runtime-test.outside", "id": "evt-1", "data": {"order": "o", "price": 7}}
        (first,) = await runtime.publish(event)
        (again,) = await runtime.publish(event)
        assert (first.message_id, first.reply, first.duplicate) == ("evt-1", 7, False)
        assert (again.reply, again.duplicate, again.sequence_nr) == (7, True, 1)
        (third,) = await runtime.publish(
            ExternalEvent("runtime-test.outside", {"order": "o", "price": 8})
        )
        assert third.reply == 8
        with pytest.raises(errors.CorrelationFailed, match="no field 'order'") as caught:
            await runtime.publish({"type": "runtime-test.outside", "data": {}})
        assert caught.value.saga == "Pair"
        with pytest.raises(errors.UnknownMessageType):
            await runtime.publish({"type": "runtime-test.nobody-knows", "data": {}})


@quickly
async def test_the_metadata_may_name_the_instance(store):
    async with Runtime(store, [Pair]) as runtime:
        (receipt,) = await runtime.publish(Conversed("hi"), correlation_id="cart-7")
        assert receipt.correlation_id == "cart-7"
        with pytest.raises(errors.CorrelationFailed, match="without a correlation id"):
            await runtime.publish(Conversed("hi"))
        history = [turn async for turn in runtime.history(runtime.ref(Pair, "cart-7"))]
        assert [turn.correlation_id for turn in history] == ["cart-7"]


@quickly
async def test_headers_and_causes_are_kept_with_the_turn(store):
    async with ledgers(store) as runtime:
        ref = await open_ledger(runtime)
        await runtime.send(ref, Added("x", 1), causation_id="c-1", correlation_id="k-1",
                           headers={"tenant": "blue"})  # fmt: skip
        turns = [turn async for turn in runtime.history(ref, after=1)]
        assert [(t.causation_id, t.correlation_id) for t in turns] == [("c-1", "k-1")]
        assert [(s.id, s.type, s.content.n) for s in turns[0].sent] == [
            ("Ledger/x/2/0", "runtime-test.ship", 1)
        ]
        assert [type(event).__name__ for event in turns[0].events] == ["Added", "Doubled"]


@pytest.mark.parametrize(
    "given",
    [
        {"correlation_id": UUID(int=7)},
        {"causation_id": object()},
        {"headers": {"a": object()}},
        {"headers": {"a": "\ud800"}},
        {"message_id": "\ud800"},
        {"message_id": ""},
        {"message_id": 7},
        {"message_id": "x" * 501},
    ],
    ids=[
        "correlation id",
        "causation id",
        "header",
        "surrogate header",
        "surrogate id",
        "empty id",
        "number as id",
        "long id",
    ],
)
@quickly
async def test_what_cannot_be_stored_beside_a_message_is_refused_at_its_sender(store, given):
    async with ledgers(store, shutdown_timeout_s=0.5) as runtime:
        ref = await open_ledger(runtime)
        async with asyncio.timeout(3):
            with pytest.raises(errors.PerdureError) as caught:
                await runtime.send(ref, Added("x", 1), **given)
        assert not isinstance(caught.value, errors.StoreError)
        assert await store.inner.dead_letters() == []
        await add(runtime, ref, 2)
        assert await items(runtime, ref) == [2]


@quickly
async def test_list_verdicts_and_ignore(store):
    async with Runtime(store, [Diary]) as runtime:
        assert await runtime.publish(Asked("ignore")) == []
        receipts = await runtime.publish(Asked("several"))
        assert [(r.correlation_id, r.duplicate) for r in receipts] == [
            ("one", False), ("two", False), ("one", True),
        ]  # fmt: skip
        assert len(await store.inner.journal("Diary/one")) == 1


@quickly
async def test_what_is_wrong_with_a_message_is_told_at_its_sender_and_changes_nothing(store):
    async with Runtime(store, [Diary, Ledger, Club], Settings(message_bytes_max=10_000)) as runtime:
        ref = runtime.ref(Diary, "d")
        wrong = [
            (Meeting("d", datetime(2026, 1, 1)), errors.NaiveDatetime),
            (Meeting("x" * 20_000, datetime(2026, 1, 1)), errors.CodecError),
            (Undirected(None), errors.CorrelationFailed),
            (Undirected(""), errors.CorrelationFailed),
            (Undirected("x" * 2_000), errors.CorrelationFailed),
            (Undirected("y" * 20_000), errors.LimitExceeded),
            (Asked("nonsense"), errors.CorrelationFailed),
            (Asked("unheard of"), errors.CorrelationFailed),
            (NeverMarked(), errors.UnregisteredType),
            (42, errors.EncodeError),
            ({"no": "type"}, errors.PerdureError),
        ]
        for content, kind in wrong:
            with pytest.raises(kind) as caught:
                await runtime.publish(content)
            assert caught.value.remedy, content
            if kind is errors.CorrelationFailed:
                assert caught.value.saga == "Diary"
        with pytest.raises(errors.UnknownMessageType) as unknown:
            await runtime.send(ref, Joined("d"))
        assert (unknown.value.saga, unknown.value.correlation_id) == ("Diary", "d")
        with pytest.raises(errors.UnknownSaga, match="Nobody"):
            runtime.ref("Nobody", "d")
        with pytest.raises(errors.CorrelationFailed):
            runtime.ref(Diary, None)
        assert store.writes == 0
        assert runtime.residents == 0


@quickly
async def test_strict_messages_raise_at_the_sender_and_so_again_when_repeated(store):
    async with Runtime(store, [Club]) as runtime:
        ref = runtime.ref(Club, "c")
        with pytest.raises(errors.InstanceNotFound):
            await runtime.send(ref, Joined("c"), message_id="early")
        assert await runtime.state(ref) is None
        await runtime.publish(Founded("c"), message_id="f")
        (again,) = await runtime.publish(Founded("c"), message_id="f")
        assert again.duplicate
        await runtime.publish(Joined("c"), message_id="early")  # it was refused, not processed
        refused = [
            (Founded("c"), "other", errors.InstanceAlreadyExists),
            (Joined("c"), "second", errors.MessageNotHandled),
        ]
        for _ in range(2):
            for content, id, kind in refused:
                with pytest.raises(kind) as caught:
                    await runtime.publish(content, message_id=id)
                assert (caught.value.saga, caught.value.correlation_id) == ("Club", "c")
                assert caught.value.remedy
            ref.stop(block=False)
        await runtime.publish(Dissolved("c"))
        for _ in range(2):
            with pytest.raises(errors.InstanceFinished):
                await runtime.publish(Joined("c"), message_id="late")
        numbers = [row.sequence_nr for row in await store.inner.journal("Club/c")]
        assert numbers == list(range(1, 7))


@dataclass(frozen=True)
class PickyState:
    status: str = "new"


class Picky(ProcessManager[PickyState]):
    name = "Picky"

    @starts(Founded, by="id", when="never", strict=True)
    def strictly(self, state, event, do): ...

    @starts(Opened, by="id", when="never")
    def plainly(self, state, event, do): ...


@quickly
async def test_a_start_no_guard_admits_starts_nothing_and_the_strict_one_raises(store):
    async with Runtime(store, [Picky]) as runtime:
        (plain,) = await runtime.publish(Opened("p"))
        assert (plain.outcome, plain.sequence_nr) == (Outcome.UNHANDLED, None)
        with pytest.raises(errors.MessageNotHandled):
            await runtime.publish(Founded("p"))
        assert await runtime.state(runtime.ref(Picky, "p")) is None
        assert store.writes == 0


@quickly
async def test_publishing_tells_per_instance_and_may_be_repeated(store):
    async with Runtime(store, [Accounts], Settings(write_attempts=1)) as runtime:
        await runtime.publish(Moved("a", "b", 1))
        store.leave_out("Accounts/b")
        with pytest.raises(errors.PublishFailed) as caught:
            await runtime.publish(Moved("a", "b", 10), message_id="m")
        outcomes = sorted(type(outcome).__name__ for outcome in caught.value.outcomes)
        assert outcomes == ["Receipt", "StoreUnavailable"]
        receipts = await runtime.publish(Moved("a", "b", 10), message_id="m")
        assert sorted((r.correlation_id, r.duplicate) for r in receipts) == [
            ("a", True), ("b", False),
        ]  # fmt: skip
        for id in "ab":
            assert (await state_of(runtime, runtime.ref(Accounts, id))).seen == 11


@quickly
async def test_an_impatient_sender_may_repeat_its_message(store):
    async with ledgers(store) as runtime:
        ref = await open_ledger(runtime)
        store.hold_writes()
        with pytest.raises(errors.SendTimeout, match="m-1"):
            await runtime.send(ref, Added("x", 1), message_id="m-1", timeout_s=0.01)
        store.release()
        receipt = await runtime.send(ref, Added("x", 1), message_id="m-1")
        assert (receipt.duplicate, receipt.reply) == (True, 1)
        assert await items(runtime, ref) == [1]


@quickly
async def test_ids_are_compared_exactly(store):
    ids = ["a", "A", "á", "a\u0301", "a/b", "a,b", "(a)", "\\", " ", "' OR 1=1 --", "%", "_"]
    async with ledgers(store) as runtime:
        await asyncio.gather(*(runtime.publish(Opened(id)) for id in ids))
        for number, id in enumerate(ids):
            await runtime.publish(Added(id, number))
        for number, id in enumerate(ids):
            assert await items(runtime, runtime.ref(Ledger, id)) == [number]
        seen = [view.correlation_id async for view in runtime.instances(Ledger)]
        assert len(seen) == len(set(seen)) == len(ids)
        shared = str(uuid4())  # one message id at several instances: each takes it
        for id in ids:
            assert not (await runtime.publish(Added(id, 9), message_id=shared))[0].duplicate
