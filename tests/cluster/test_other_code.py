"""Processes of other code beside this one: what is sent is told as failed by nobody who does not
know it. Real processes, and all else that may be unknown, are in ``test_deploys.py``."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

from perdure import (
    DeadLetter,
    Effects,
    Park,
    ProcessManager,
    Rate,
    WorkQueue,
    applies,
    continues,
    message,
    starts,
)
from perdure.codec.codec import Codec
from perdure.errors import UnknownMessageType
from perdure.store.shards import shard_of
from tests.cluster.pods import SHARDS, Pod, cluster, key_in, nobody_knows
from tests.runtime.support import quickly, state_of, until
from tests.runtime.test_children import Begin, Child, Parent
from tests.runtime.test_published import Asker, Bought, Quoter
from tests.sagas import Added, Ledger, Opened


def id_over(here: str, there: str, ending: str = "") -> str:
    """An id whose instance is in shard 0 of this saga, and in shard 3 of that."""
    return next(
        id_
        for id_ in map(str, range(1000))
        if (shard_of(f"{here}/{id_}", SHARDS), shard_of(f"{there}/{id_}{ending}", SHARDS)) == (0, 3)
    )


async def left(pod: Pod, type_name: str) -> None:
    """Wait until the process says of jobs of this type that it leaves them."""
    troubles = pod.running(0).services.troubles
    await until(lambda: any(type_name in one.what for one in troubles.present()))


async def all_done(pod: Pod) -> None:
    while await pod.world.stores[0].outbox():  # noqa: ASYNC110 - what the store says
        await asyncio.sleep(0)


@quickly
async def test_a_child_of_an_unknown_saga_is_not_told_as_failed() -> None:
    async with cluster(2, [Parent, Child], older=[Parent]) as (newer, older):
        id_ = id_over(Parent.name, Child.name, "/one")
        await newer.own(0)
        await newer.runtime.publish(Begin(id_))
        await newer.leave(0)
        await older.own(0)
        await left(older, "perdure.ToInstance")
        assert len(await older.world.stores[0].outbox()) == 1
        await older.leave(0)
        await newer.own(0, 3)
        await all_done(newer)
        parent = await state_of(newer.runtime, newer.runtime.ref(Parent, id_))
        assert parent.ended == ()
        assert await newer.runtime.state(newer.runtime.ref(Child, f"{id_}/one")) is not None


@quickly
async def test_a_command_for_an_unknown_saga_does_not_fail() -> None:
    async with cluster(2, [Asker, Quoter], older=[Asker]) as (newer, older):
        id_ = id_over(Asker.name, Quoter.name)
        await newer.own(0)
        await newer.runtime.publish(Bought(id_))
        await newer.leave(0)
        await older.own(0)
        await left(older, "published-test.quote")
        await older.leave(0)
        await newer.own(0, 3)
        await all_done(newer)
        asker = await state_of(newer.runtime, newer.runtime.ref(Asker, id_))
        assert asker.heard == ("7",)


@quickly
async def test_a_command_whose_answer_is_unknown_does_not_fail(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with cluster(2, [Asker, Quoter]) as (older, newer):
        id_ = id_over(Asker.name, Quoter.name)
        await older.own(0)
        await newer.own(3)
        with monkeypatch.context() as patched:
            patched.setattr(Codec, "decode_value", nobody_knows)
            await older.runtime.publish(Bought(id_))
            await left(older, "published-test.quote")
        await older.leave(0)
        await newer.own(0)
        await all_done(newer)
        asker = await state_of(newer.runtime, newer.runtime.ref(Asker, id_))
        assert asker.heard == ("7",)


@quickly
async def test_what_was_told_twice_is_no_dead_letter_though_its_reply_is_unknown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with cluster(2) as (a, b):
        await b.own(1)
        ref = a.runtime.ref(Ledger, key_in(1))
        await a.runtime.send(ref, Opened(ref.correlation_id))
        await a.runtime.send(ref, Added(ref.correlation_id, 1), message_id="m-1")
        monkeypatch.setattr(Codec, "decode_value", nobody_knows)
        again = {"id": ref.correlation_id, "n": 1}
        ref.tell({"type": "runtime-test.added", "id": "m-1", "data": again})
        await until(lambda: len(a.world.table.puts) == 3 and not a.world.table.rows)
        assert not await a.world.stores[1].dead_letters()
        assert (await state_of(b.runtime, ref)).items == (1,)


@message(name="other-code.noted")
class Noted:
    id: str


@dataclass(frozen=True)
class Notes:
    count: int = 0


class TakesNotes(ProcessManager[Notes]):
    name = "other-code.Order"
    on_missing = Park()

    @starts(Begin, by="id")
    def begin(self, state: Notes, event: Begin, do: Effects) -> None: ...

    @continues(Noted, by="id")
    def note(self, state: Notes, event: Noted, do: Effects) -> None: ...

    @applies(Noted)
    def noted(self, state: Notes, event: Noted) -> Notes:
        return Notes(state.count + 1)


class TakesNone(ProcessManager[Notes]):
    name = "other-code.Order"
    on_missing = Park()

    @starts(Begin, by="id")
    def begin(self, state: Notes, event: Begin, do: Effects) -> None: ...


@quickly
async def test_what_waits_in_the_inbox_is_kept_for_code_that_has_a_handler_for_it() -> None:
    async with cluster(2, [TakesNotes], older=[TakesNone]) as (newer, older):
        id_ = key_in(0, TakesNotes.name)
        ref = newer.runtime.ref(TakesNotes, id_)
        await newer.own(0)
        assert (await newer.runtime.send(ref, Noted(id_))).outcome == "parked"
        await newer.leave(0)
        await older.own(0)
        held = await older.runtime.send(older.runtime.ref(TakesNone, id_), Begin(id_))
        assert held.outcome == "held"
        (aside,) = await older.world.stores[0].quarantines()
        assert aside.reason == "undecodable"
        assert "has no handler for other-code.noted here" in aside.error
        await older.leave(0)
        await newer.own(0)
        while (  # noqa: ASYNC110 - what the store says
            view := await newer.runtime.state(ref)
        ) is None or not view.state.count:
            await asyncio.sleep(0)
        assert not await newer.world.stores[0].quarantines()


class TakesNotesSoon(ProcessManager[Notes]):
    name = "other-code.Order"
    on_missing = Park(for_s=0.01)

    @starts(Begin, by="id")
    def begin(self, state: Notes, event: Begin, do: Effects) -> None: ...

    @continues(Noted, by="id")
    def note(self, state: Notes, event: Noted, do: Effects) -> None: ...


@quickly
async def test_a_letter_is_redriven_by_code_that_has_a_handler_for_it() -> None:
    """Else it would wait in the inbox, and its instance with it."""
    async with cluster(2, [TakesNotesSoon], older=[TakesNone]) as (newer, older):
        ref = newer.runtime.ref(TakesNotesSoon, key_in(0, TakesNone.name))
        await newer.own(0)
        assert (await newer.runtime.send(ref, Noted(ref.correlation_id))).outcome == "parked"
        letters: list[DeadLetter] = []
        while not letters:
            letters = [letter async for letter in newer.runtime.dead_letters.list()]
        await newer.leave(0)
        await older.own(0)
        with pytest.raises(UnknownMessageType, match="no handler for other-code"):
            await older.runtime.dead_letters.redrive(letters[0].id)
        assert await older.runtime.dead_letters.redrive_all() == 0
        assert not await older.world.stores[0].quarantines()
        await older.leave(0)
        await newer.own(0)
        assert await newer.runtime.dead_letters.redrive(letters[0].id)


@message(name="other-code.work")
class Work:
    id: str


@message(name="other-code.do")
class Do:
    n: int


@message(name="other-code.also")
class Also:
    n: int


@dataclass(frozen=True)
class Begun:
    status: str = "begun"


class Boss(ProcessManager[Begun]):
    name = "other-code.Boss"

    @starts(Work, by="id")
    def begin(self, state: Begun, event: Work, do: Effects) -> None:
        for n in range(3):
            do.send(Do(n))
        do.send(Also(3))


def queue(*kinds: type, **policy: Any) -> tuple[WorkQueue, list[int]]:
    """A queue that performs these, and what it has done."""
    made, done = WorkQueue("other-code.queue", **policy), []

    def work(command: Any) -> None:
        done.append(command.n)

    for kind in kinds:
        work.__annotations__["command"] = kind
        made.worker(work)
    return made, done


@pytest.mark.parametrize("sequential", [False, True])
def test_jobs_that_nobody_here_knows_are_left_and_the_queue_settles(sequential: bool) -> None:
    @quickly
    async def check() -> None:
        knows, done = queue(Do, Also, sequential=sequential)
        knows_one, done_by_older = queue(Also, sequential=sequential, rate=Rate(1, per_s=3600))
        async with cluster(2, [Boss, knows], older=[Boss, knows_one]) as (newer, older):
            id_ = next(
                id_ for id_ in map(str, range(99)) if shard_of(f"{Boss.name}/{id_}", SHARDS) == 0
            )
            await newer.own(0)
            newer.running(0).dispatcher.runners[knows.name].state.pause("not yet")
            await newer.runtime.publish(Work(id_))
            await newer.leave(0)
            await older.own(0)
            await left(older, "other-code.do")
            await older.runtimes[0].settled()
            assert done_by_older == ([] if sequential else [3])
            assert len(await older.world.stores[0].outbox()) == (4 if sequential else 3)
            (trouble,) = older.running(0).services.troubles.present()
            assert "dead letter" not in trouble.error, "there is none"
            await older.leave(0)
            await newer.own(0)
            await all_done(newer)
            assert sorted(done) == [0, 1, 2, 3][: 4 if sequential else 3]

    check()
