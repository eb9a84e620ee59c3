"""Mail that cannot be taken now: it stays, in order, and holds up nobody else."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import Any

import pytest

from perdure import Effects, MemoryStore, ProcessManager, errors, starts
from perdure.store.mail import MailRow
from perdure.store.shards import shard_of
from tests.cluster.pods import SHARDS, Pod, cluster, key_in
from tests.cluster.ringing import Heard, Ringer, Ringing
from tests.runtime.support import quickly, rounds, state_of, until
from tests.sagas import Added, Closed, Ignoring, Ledger, Opened, Replying, Starting


class Hearer(ProcessManager[Heard]):
    name = "Hearer"

    @starts(Ringing, by="id")
    def rang(self, state: Heard, event: Ringing, do: Effects) -> None: ...


def send(pod: Pod, id_: str, content: Any, saga: type[Ledger] = Ledger) -> asyncio.Task[Any]:
    ref = pod.runtime.ref(saga, id_)
    return asyncio.create_task(pod.runtime.send(ref, content))


@quickly
async def test_an_unreadable_row_waits_and_what_is_behind_it_and_nobody_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with cluster(3) as (a, b, c):
        x, y = key_in(1), key_in(1, stem="y")
        first = send(a, x, Opened(x))
        await until(lambda: len(a.world.table.rows) == 1)
        (position, good), *_ = a.world.table.rows.items()
        a.world.table.rows[position] = replace(good, is_damaged=True)
        behind = [send(a, x, Added(x, n)) for n in range(3)]
        other = send(a, y, Opened(y))
        with caplog.at_level(logging.ERROR):
            await b.own(1)
            await other
        assert "cannot be read here" in caplog.text
        await rounds()
        assert not any(task.done() for task in [first, *behind])
        assert any(
            f"mail for Ledger/{x}" in one.what for one in b.running(1).services.troubles.present()
        )
        direct = asyncio.create_task(b.runtime.send(b.runtime.ref(Ledger, x), Added(x, 3)))
        await rounds()
        assert not direct.done()  # by hand it would have overtaken
        await b.leave(1)
        a.world.table.rows[position] = good  # a process that can read it
        await c.own(1)
        await asyncio.gather(first, *behind, direct)
        assert (await state_of(a.runtime, a.runtime.ref(Ledger, x))).items == (0, 1, 2, 3)


@quickly
async def test_a_saga_that_the_owner_does_not_run_waits_for_one_who_does() -> None:
    async with cluster(2, [Ledger, Starting]) as (a, b):
        id_ = key_in(2, Starting.name)
        await b.own(2)
        del b.running(2).supervisor.definitions[Starting.name]  # type: ignore[attr-defined]
        waiting = send(a, id_, Opened(id_), Starting)
        await until(lambda: bool(b.running(2).services.troubles.present()))
        assert not waiting.done()
        await b.leave(2)
        await a.own(2)
        assert (await waiting).outcome == "applied"


@quickly
async def test_a_kind_of_newer_code_waits() -> None:
    async with cluster(2) as (a, b):
        await b.own(0, 1, 2, 3)
        row = MailRow(f"Ledger/{key_in(1)}", "m", 99, b"", "", 0)
        await a.mail.put([row])
        await until(lambda: bool(b.running(1).services.troubles.present()))
        assert len(a.world.table.rows) == 1


@quickly
async def test_while_the_store_fails_mail_waits_and_keeps_its_order() -> None:
    async with cluster(2, retry_pause_s=0.001) as (a, b):
        await b.own(1)
        x = key_in(1)
        await send(a, x, Opened(x))
        store = b.world.stores[1]
        write, failures = store.write, [0]

        async def failing(entries: Any) -> Any:
            failures[0] += 1
            if failures[0] <= 12:
                raise errors.StoreUnavailable("not now")
            return await write(entries)

        store.write = failing  # type: ignore[method-assign]
        sends = []
        for n in range(20):
            sends.append(send(a, x, Added(x, n)))
            await rounds(3)
        await asyncio.gather(*sends)
        assert failures[0] > 12
        assert (await state_of(a.runtime, a.runtime.ref(Ledger, x))).items == tuple(range(20))


@quickly
async def test_a_message_whose_writes_have_failed_often_is_not_overtaken() -> None:
    async with cluster(2, retry_pause_s=0.001, write_attempts=3) as (a, b):
        await b.own(1)
        x = key_in(1)
        await send(a, x, Opened(x))
        store = b.world.stores[1]
        write, sends, failures = store.write, [], [0]

        async def failing(entries: Any) -> Any:
            failures[0] += 1
            if failures[0] > 4:
                return await write(entries)
            sends.append(send(a, x, Added(x, failures[0])))  # comes with fewer attempts
            await rounds()
            raise errors.StoreUnavailable("not now")

        store.write = failing  # type: ignore[method-assign]
        sends.append(send(a, x, Added(x, 0)))
        await until(lambda: failures[0] > 4)
        await asyncio.gather(*sends)
        state = await state_of(a.runtime, a.runtime.ref(Ledger, x))
        assert state.items == (0, 1, 2, 3, 4)


@quickly
async def test_while_the_instance_cannot_be_loaded_mail_waits_and_keeps_its_order() -> None:
    async with cluster(2, retry_pause_s=0.001) as (a, b):
        await b.own(1)
        x = key_in(1)
        store: MemoryStore = b.world.stores[1]
        load, failures = store.load, [0]

        async def failing(instances: Any) -> Any:
            failures[0] += 1
            if failures[0] <= 8:
                raise errors.StoreUnavailable("not now")
            return await load(instances)

        store.load = failing  # type: ignore[method-assign]
        sends = [send(a, x, Opened(x)), *(send(a, x, Added(x, n)) for n in range(20))]
        receipts = await asyncio.gather(*sends)
        assert [one.reply for one in receipts[1:]] == [n + 1 for n in range(20)]


@quickly
async def test_a_missing_instance_is_dealt_with_as_its_saga_says() -> None:
    async with cluster(2, [Ledger, Ignoring, Replying]) as (a, b):
        await b.own(0, 1, 2, 3)
        parked = await send(a, "nobody", Added("nobody", 1))
        assert (parked.outcome, parked.sequence_nr) == ("parked", None)
        ignored = await send(a, "nobody", Added("nobody", 1), Ignoring)
        assert ignored.outcome == "missing"
        replied = await send(a, "nobody", Added("nobody", 1), Replying)
        assert (replied.outcome, replied.reply) == ("missing", "nobody here")
        with pytest.raises(errors.InstanceNotFound):
            await a.runtime.cancel(a.runtime.ref(Ledger, "nobody"))


@quickly
async def test_told_and_not_applicable_becomes_a_dead_letter_once() -> None:
    async with cluster(2, waiting_max=2) as (a, b):
        await b.own(0, 1, 2, 3)
        ref = a.runtime.ref(Ledger, "nobody")
        for n in range(5):
            ref.tell(Added("nobody", n))
        shard = b.router.shard_of(ref.key)
        letters: list[Any] = []
        while len(letters) < 3:
            await asyncio.sleep(0)
            letters = await b.world.stores[shard].dead_letters()
        await until(lambda: not a.world.table.rows)
        assert [letter.reason for letter in letters] == ["MailboxFull"] * 3
        assert len(await b.world.stores[shard].dead_letters()) == 3


@quickly
async def test_more_mail_than_fits_at_once_is_taken_in_turns() -> None:
    async with cluster(2) as (a, b):
        ids = [key_in(1, stem=stem) for stem in "abcdef"]
        sends = [send(a, id_, Opened(id_)) for id_ in ids]
        sends += [send(a, id_, Added(id_, n)) for n in range(400) for id_ in ids]
        await until(lambda: len(a.world.table.rows) == len(sends))
        await b.own(1)
        await asyncio.gather(*sends)
        for id_ in ids:
            state = await state_of(a.runtime, a.runtime.ref(Ledger, id_))
            assert state.items == tuple(range(400))
        await until(lambda: not a.world.table.rows)


@quickly
async def test_a_full_runtime_lets_senders_wait_then_refuses() -> None:
    async with cluster(2, in_flight_max=5, accept_timeout_s=0.05) as (a, b):
        sends = [send(a, f"x{n}", Opened(f"x{n}")) for n in range(8)]
        done, waiting = await asyncio.wait(sends, timeout=1)
        assert {type(task.exception()) for task in done} == {errors.MailboxFull}
        assert (len(done), len(waiting)) == (3, 5)
        await b.own(0, 1, 2, 3)
        await asyncio.gather(*waiting)


@quickly
async def test_a_sender_that_stops_refuses_who_waits_and_its_mail_arrives() -> None:
    async with cluster(2, shutdown_timeout_s=0.05) as (a, b):
        x = key_in(1)
        waiting = send(a, x, Opened(x))
        await until(lambda: len(a.world.table.rows) == 1)
        await a.stop()
        with pytest.raises(errors.OutcomeUnknown, match="waits in the mail of shard 1"):
            await waiting
        a.kill()
        await b.own(1)
        y = b.runtime.ref(Ledger, x)
        while (view := await b.runtime.state(y)) is None:  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert view.state.status == "open"


@quickly
async def test_who_waits_too_long_may_ask_again_under_the_same_id() -> None:
    async with cluster(2) as (a, b):
        x = key_in(1)
        ref = a.runtime.ref(Ledger, x)
        with pytest.raises(errors.SendTimeout):
            await a.runtime.send(ref, Opened(x), message_id="m-0", timeout_s=0.02)
        again = asyncio.create_task(a.runtime.send(ref, Opened(x), message_id="m-0"))
        await b.own(1)
        receipt = await again
        assert (receipt.outcome, receipt.sequence_nr) == ("applied", 1)
        closed = await send(a, x, Closed(x))
        assert closed.sequence_nr == 2


@quickly
async def test_an_id_that_postgresql_cannot_store_harms_only_its_own_message() -> None:
    async with cluster(2) as (a, b):
        await b.own(1)
        x = key_in(1)
        ref = a.runtime.ref(Ledger, x)
        with pytest.raises(errors.EncodeError, match="NUL"):
            await a.runtime.send(ref, Opened(x), message_id="m\0")
        assert (await send(a, x, Opened(x))).sequence_nr == 1


@quickly
async def test_a_runtime_that_drains_leaves_what_its_jobs_send_to_the_next_owner() -> None:
    async with cluster(2, [Ringer, Hearer], shutdown_timeout_s=5.0) as (a, b):
        id_ = next(
            id_ for id_ in map(str, range(100))
            if shard_of(f"Ringer/{id_}", SHARDS) == 0 and shard_of(f"Hearer/{id_}", SHARDS) == 3
        )  # fmt: skip
        await a.own(0)
        await a.runtime.publish(Opened(id_))
        await until(lambda: bool(a.world.table.rows))
        began_s = asyncio.get_running_loop().time()
        await a.leave(0)
        assert asyncio.get_running_loop().time() - began_s < 2
        assert len(await a.world.stores[0].outbox()) == 1
        await b.own(0, 3)
        while await a.world.stores[0].outbox():  # noqa: ASYNC110 - what the store says
            await asyncio.sleep(0)
        view = await a.runtime.state(a.runtime.ref(Hearer, id_))
        assert view is not None
        assert view.sequence_nr == 1
