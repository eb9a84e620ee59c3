"""Mail when processes are killed, shards move, and answers or commits are lost."""

from __future__ import annotations

import asyncio
import random

import pytest

from perdure import SagaRef, errors
from tests.cluster.pods import SHARDS, Pod, cluster, key_in
from tests.runtime.support import in_loop, quickly, state_of, until
from tests.sagas import Added, Ledger, Opened


def ref(pod: Pod, shard: int, stem: str = "x") -> SagaRef:
    return pod.runtime.ref(Ledger, key_in(shard, stem=stem))


def send(pod: Pod, to: SagaRef, n: int) -> asyncio.Task[object]:
    content = Added(to.correlation_id, n) if n else Opened(to.correlation_id)
    return asyncio.create_task(pod.runtime.send(to, content, message_id=f"{to.key}-{n}"))


@quickly
async def test_what_the_killed_owner_had_not_taken_the_next_one_takes() -> None:
    async with cluster(3) as (a, b, c):
        await b.own(1)
        x = ref(a, 1)
        await send(a, x, 0)
        b.kill()
        sends = [send(a, x, n) for n in range(1, 50)]
        await until(lambda: len(a.world.table.rows) == 49)
        await c.own(1)
        await asyncio.gather(*sends)
        assert (await state_of(a.runtime, x)).items == tuple(range(1, 50))


@quickly
async def test_killed_between_the_commit_and_the_answer() -> None:
    async with cluster(3) as (a, b, c):
        await b.own(1)
        x = ref(a, 1)
        await send(a, x, 0)
        a.world.bells.is_deaf = lambda channel, payload: "replies" in channel
        b.mail.unremoved = 1_000
        sends = [send(a, x, n) for n in range(1, 9)]
        await until(lambda: b.mail.unremoved < 1_000)
        assert not any(one.done() for one in sends)
        b.kill()
        a.world.bells.is_deaf = lambda channel, payload: False
        await c.own(1)
        receipts = await asyncio.gather(*sends)
        assert [one.reply for one in receipts] == list(range(1, 9))  # type: ignore[attr-defined]
        assert (await state_of(a.runtime, x)).items == tuple(range(1, 9))


@quickly
async def test_a_lost_answer_is_asked_for_again() -> None:
    async with cluster(2) as (a, b):
        await b.own(1)
        x = ref(a, 1)
        await send(a, x, 0)
        lost: list[str] = []

        def is_deaf(channel: str, payload: str) -> bool:
            if "replies" in channel and not lost:
                lost.append(payload)
                return True
            return False

        a.world.bells.is_deaf = is_deaf
        receipt = await a.runtime.send(x, Added(x.correlation_id, 1))
        assert (receipt.reply, receipt.sequence_nr, receipt.duplicate) == (1, 2, False)
        assert lost
        assert (await state_of(a.runtime, x)).items == (1,)


@quickly
async def test_without_doorbells_it_is_slower_and_that_is_all() -> None:
    dice = random.Random(7)
    async with cluster(2, poll_s=0.01) as (a, b):
        a.world.bells.is_deaf = lambda channel, payload: not payload or dice.random() < 0.5
        await b.own(1)
        x = ref(a, 1)
        await send(a, x, 0)
        await asyncio.gather(*(send(a, x, n) for n in range(1, 20)))
        assert (await state_of(a.runtime, x)).items == tuple(range(1, 20))


@quickly
async def test_a_commit_whose_outcome_is_unknown_is_put_again_and_applied_once() -> None:
    async with cluster(2, retry_pause_s=0.001) as (a, b):
        await b.own(1)
        x = ref(a, 1)
        await send(a, x, 0)
        a.mail.loses = 1
        a.mail.fails = 1
        receipts = await asyncio.gather(*(send(a, x, n) for n in range(1, 9)))
        assert [one.reply for one in receipts] == list(range(1, 9))  # type: ignore[attr-defined]
        assert (await state_of(a.runtime, x)).items == tuple(range(1, 9))


@quickly
async def test_who_cannot_post_is_told_and_who_told_is_posted_later() -> None:
    async with cluster(2, retry_pause_s=0.001) as (a, b):
        await b.own(1)
        x = ref(a, 1)
        await send(a, x, 0)
        a.mail.fails = 5
        x.tell(Added(x.correlation_id, 1))
        with pytest.raises(errors.OutcomeUnknown, match="same message id"):
            await send(a, x, 2)
        await until(lambda: not a.mail.fails)
        receipt = await a.runtime.send(x, Added(x.correlation_id, 3))
        assert receipt.reply == 2
        assert (await state_of(a.runtime, x)).items == (1, 3)


@quickly
async def test_rows_that_become_visible_late_are_not_passed_over() -> None:
    async with cluster(3) as (a, b, c):
        await c.own(1)
        x, y = ref(a, 1), ref(b, 1, "y")
        a.mail.gate = asyncio.Event()
        late = send(a, x, 0)
        await until(lambda: a.world.table.last == 1)
        await send(b, y, 0)
        assert not late.done()
        a.mail.gate.set()
        await late


@quickly
async def test_a_shard_that_comes_takes_its_mail_before_what_is_sent_by_hand() -> None:
    async with cluster(2) as (a, b):
        x = ref(a, 1)
        first = [send(a, x, n) for n in range(100)]
        await asyncio.sleep(0)  # they have begun
        x.tell(Added(x.correlation_id, 100))
        await until(lambda: len(a.world.table.rows) == 101)
        await a.own(1)
        second = [send(a, x, n) for n in range(101, 150)]
        await asyncio.gather(*first, *second)
        await a.caught_up()
        before = a.world.table.last
        await asyncio.gather(*(send(a, x, n) for n in range(150, 200)))
        assert a.world.table.last == before
        assert (await state_of(b.runtime, x)).items == tuple(range(1, 200))


@in_loop(60)
async def test_shards_move_under_many_senders_and_nothing_is_lost_doubled_or_overtaken() -> None:
    for seed in range(12):
        await _moves(random.Random(seed))


async def _moves(dice: random.Random) -> None:
    async with cluster(3, poll_s=0.02, retry_pause_s=0.001, shutdown_timeout_s=0.2) as pods:
        world = pods[0].world
        owner: dict[int, Pod] = {}
        for shard in range(SHARDS):
            owner[shard] = dice.choice(pods)
            await owner[shard].own(shard)
        world.bells.is_deaf = lambda channel, payload: dice.random() < 0.1
        sent: dict[tuple[str, str], list[int]] = {}
        tasks: list[asyncio.Task[object]] = []
        for pod in pods:
            for shard in range(SHARDS):
                x = ref(pod, shard, pod.name)
                tasks.append(send(pod, x, 0))

        async def sender(pod: Pod) -> None:
            for n in range(1, 40):
                x = ref(pod, dice.randrange(SHARDS), pod.name)
                sent.setdefault((pod.name, x.key), []).append(n)
                if dice.random() < 0.3:
                    x.tell(Added(x.correlation_id, n))
                else:
                    tasks.append(send(pod, x, n))
                    await asyncio.sleep(0)  # it has begun
                if dice.random() < 0.5:
                    await asyncio.sleep(dice.random() * 0.004)
                if dice.random() < 0.05:
                    pod.mail.loses = 1

        senders = [asyncio.create_task(sender(pod)) for pod in pods]
        for _ in range(8):
            await asyncio.sleep(dice.random() * 0.02)
            shard = dice.randrange(SHARDS)
            await owner[shard].leave(shard)
            owner[shard] = dice.choice(pods)
            await owner[shard].own(shard)
        await asyncio.gather(*senders)
        await asyncio.gather(*tasks)
        for pod in pods:
            await pod.runtime.settled()
        await until(lambda: not world.table.rows)
        for pod in pods:
            for shard in range(SHARDS):
                x = ref(pod, shard, pod.name)
                numbers = tuple(sent.get((pod.name, x.key), []))
                assert (await state_of(pod.runtime, x)).items == numbers
