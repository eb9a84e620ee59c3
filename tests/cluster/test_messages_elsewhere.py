"""A message for an instance that another process, or another runtime of this one, owns."""

from __future__ import annotations

import asyncio

import pytest

from perdure import DeadLetter, Effects, Outcome, SagaRef, continues, errors, message
from perdure.runtime.delivery import Receipt
from tests.cluster.pods import Pod, cluster, key_in
from tests.runtime.support import quickly, state_of, until
from tests.sagas import Added, Closed, Ledger, LedgerState, Opened, Struck


def ref(pod: Pod, shard: int, saga: type[Ledger] = Ledger) -> SagaRef:
    return pod.runtime.ref(saga, key_in(shard, saga.name))


async def opened(pod: Pod, shard: int) -> SagaRef:
    made = ref(pod, shard)
    await pod.runtime.send(made, Opened(made.correlation_id))
    return made


@quickly
async def test_by_hand_within_a_process() -> None:
    async with cluster(1) as (a,):
        await a.own(0, 1, 2, 3)
        await a.caught_up()
        for shard in range(4):
            made = await opened(a, shard)
            receipt = await a.runtime.send(made, Added(made.correlation_id, 7))
            assert (receipt.outcome, receipt.sequence_nr, receipt.reply) == ("applied", 2, 1)
            assert (await state_of(a.runtime, made)).items == (7,)
        assert a.world.table.last == 0


@quickly
async def test_by_mail_to_another_process() -> None:
    async with cluster(2) as (a, b):
        await b.own(0, 1, 2, 3)
        made = await opened(a, 2)
        receipt = await a.runtime.send(made, Added(made.correlation_id, 7), message_id="m-7")
        assert receipt == Receipt(
            "Ledger", made.correlation_id, "m-7", Outcome.APPLIED, 2, 1, False
        )
        again = await a.runtime.send(made, Added(made.correlation_id, 7), message_id="m-7")
        assert (again.sequence_nr, again.reply, again.duplicate) == (2, 1, True)
        assert (await state_of(a.runtime, made)).items == (7,)
        await until(lambda: not a.world.table.rows)


@quickly
async def test_errors_arrive_as_they_were_raised() -> None:
    async with cluster(2) as (a, b):
        await b.own(1)
        made = await opened(a, 1)
        with pytest.raises(errors.HandlerFailed) as caught:
            await a.runtime.send(made, Struck(made.correlation_id, "error"))
        assert caught.value.saga == "Ledger"
        assert caught.value.correlation_id == made.correlation_id
        assert "ValueError: struck" in caught.value.problem
        assert "redrive" in (caught.value.remedy or "")
        await a.runtime.send(made, Closed(made.correlation_id))
        with pytest.raises(errors.InstanceFinished):
            await a.runtime.cancel(made)


@quickly
async def test_many_at_once_arrive_in_order_in_few_transactions() -> None:
    async with cluster(2) as (a, b):
        await b.own(0, 1, 2, 3)
        made = await opened(a, 1)
        numbers = range(300)
        sends = [
            asyncio.create_task(a.runtime.send(made, Added(made.correlation_id, n)))
            for n in numbers
        ]
        receipts = await asyncio.gather(*sends)
        assert [receipt.reply for receipt in receipts] == [n + 1 for n in numbers]
        assert (await state_of(a.runtime, made)).items == tuple(numbers)


@quickly
async def test_tell_and_ask_from_any_thread() -> None:
    async with cluster(2) as (a, b):
        await b.own(3)
        made = await opened(a, 3)

        def talk() -> int:
            made.tell(Added(made.correlation_id, 1))
            made.tell(Added(made.correlation_id, 2))
            answer: int = made.ask(Added(made.correlation_id, 3), timeout=5)
            return answer

        assert await asyncio.to_thread(talk) == 3
        made.tell(Added(made.correlation_id, 4))
        assert await made.ask(Added(made.correlation_id, 5), block=False) == 5


@quickly
async def test_told_and_refused_is_a_dead_letter_at_its_owner() -> None:
    async with cluster(2) as (a, b):
        await b.own(3)
        made = await opened(a, 3)
        made.tell(Struck(made.correlation_id, "error"))
        letters: list[DeadLetter] = []
        while not letters:
            letters = [letter async for letter in a.runtime.dead_letters.list()]
        assert [letter.reason for letter in letters] == ["ValueError"]
        await until(lambda: not a.world.table.rows)


@message(name="cluster-test.long-answer-wanted")
class LongAnswerWanted:
    id: str
    size: int


class Talker(Ledger):
    name = "Talker"

    @continues(LongAnswerWanted, by="id")
    def talk(self, state: LedgerState, event: LongAnswerWanted, do: Effects) -> None:
        do.reply("é" * event.size)


@quickly
async def test_a_large_reply_is_read_where_it_is_journaled() -> None:
    async with cluster(2, [Talker]) as (a, b):
        await b.own(0)
        made = ref(a, 0, Talker)
        await a.runtime.send(made, Opened(made.correlation_id))
        for size in (10, 1_000, 1_990, 2_010, 100_000):
            receipt = await a.runtime.send(made, LongAnswerWanted(made.correlation_id, size))
            assert receipt.reply == "é" * size


@quickly
async def test_publish_reaches_each_owner() -> None:
    async with cluster(2) as (a, b):
        await a.own(0, 1)
        await b.own(2, 3)
        for shard in range(4):
            receipts = await a.runtime.publish(Opened(key_in(shard)))
            assert [one.outcome for one in receipts] == [Outcome.APPLIED]
        for shard in range(4):
            assert (await state_of(b.runtime, ref(b, shard))).status == "open"


@quickly
async def test_the_end_is_awaited_anywhere() -> None:
    async with cluster(2) as (a, b):
        await b.own(0, 1, 2, 3)
        made = await opened(a, 1)
        waiting = asyncio.create_task(a.runtime.result(made, timeout_s=5))
        local = asyncio.create_task(b.runtime.result(ref(b, 1), timeout_s=5))
        await b.runtime.send(made, Closed(made.correlation_id))
        await asyncio.gather(waiting, local)
