"""Mail when processes are killed, shards move, and answers or commits are lost."""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta
from typing import Any

import pytest

from perdure import Every, SagaRef, Schedule, errors
from tests.cluster.pods import SHARDS, Pod, cluster, key_in
from tests.runtime.support import in_loop, quickly, rounds, state_of, until
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
        await until(lambda: not a.world.table.rows)
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


@quickly
async def test_a_row_stays_until_what_became_of_it_is_durable() -> None:
    async with cluster(3) as (a, b, c):
        await b.own(1)
        x = ref(a, 1)
        b.store(1).gate = asyncio.Event()
        sent = send(a, x, 0)
        await until(lambda: x.key in b.running(1).supervisor.active)
        await rounds()
        assert len(a.world.table.rows) == 1
        assert not sent.done()
        b.kill()
        await c.own(1)
        await sent


@quickly
async def test_what_was_told_by_mail_is_not_overtaken_by_hand() -> None:
    async with cluster(1) as (a,):
        x = ref(a, 1)
        x.tell(Opened(x.correlation_id))
        for n in range(1, 50):
            x.tell(Added(x.correlation_id, n))
        await until(lambda: len(a.world.table.rows) == 50)
        await a.runtime.settled()  # all of it is put, and nobody waits
        a.mail.page_gate = asyncio.Event()
        await a.own(1)
        await rounds()
        by_hand = send(a, x, 50)
        await rounds()
        a.mail.page_gate.set()
        await by_hand
        assert (await state_of(a.runtime, x)).items == tuple(range(1, 51))


@quickly
async def test_what_is_just_being_put_is_not_overtaken_by_hand() -> None:
    async with cluster(1) as (a,):
        x = ref(a, 1)
        await a.own(1)
        await send(a, x, 0)
        await a.leave(1)
        a.mail.gate = asyncio.Event()
        x.tell(Added(x.correlation_id, 1))
        await rounds()
        await a.own(1)
        await a.caught_up()
        by_hand = send(a, x, 2)
        a.mail.page_gate = asyncio.Event()
        a.mail.gate.set()
        await rounds()
        a.mail.page_gate.set()
        await by_hand
        assert (await state_of(a.runtime, x)).items == (1, 2)


@quickly
async def test_what_a_stopping_runtime_gives_back_goes_by_mail_in_its_order() -> None:
    async with cluster(2, shutdown_timeout_s=0.05) as (a, b):
        await a.own(1)
        await a.caught_up()
        x = ref(a, 1)
        await send(a, x, 0)
        a.store(1).gate = asyncio.Event()
        sends = [send(a, x, n) for n in range(1, 30)]
        await rounds()
        leaving = asyncio.create_task(a.leave(1))
        await rounds()
        sends += [send(a, x, n) for n in range(30, 60)]
        await leaving
        assert not any(one.done() for one in sends)
        await b.own(1)
        await asyncio.gather(*sends)
        assert (await state_of(a.runtime, x)).items == tuple(range(1, 60))


@quickly
async def test_a_runtime_opens_only_what_it_owns() -> None:
    nightly = Schedule("nightly", Every(timedelta(hours=1)), lambda run: None)
    async with cluster(1, [nightly]) as (a,):
        owner = a.router.shard_of("nightly/nightly")
        await a.own(*(shard for shard in range(SHARDS) if shard != owner))
        assert not a.world.table.rows
        await a.own(owner)
        assert [view.name for view in await a.runtimes[owner].schedules()] == ["nightly"]


@in_loop(60)
async def test_shards_move_under_many_senders_and_nothing_is_lost_doubled_or_overtaken() -> None:
    for seed in range(12):
        await _moves(random.Random(seed))


class Crowd:
    """Senders in all processes, at instances of all shards; what each has sent, in order."""

    def __init__(self, pods: tuple[Pod, ...], dice: random.Random) -> None:
        self.pods = pods
        self.dice = dice
        self.sent: dict[str, list[int]] = {}
        self.tasks: list[asyncio.Task[object]] = []

    def instances(self) -> list[tuple[Pod, SagaRef]]:
        return [(pod, ref(pod, shard, pod.name)) for pod in self.pods for shard in range(SHARDS)]

    async def run(self, pod: Pod) -> None:
        dice = self.dice
        for n in range(1, 40):
            x = ref(pod, dice.randrange(SHARDS), pod.name)
            self.sent.setdefault(x.key, []).append(n)
            if dice.random() < 0.3:
                x.tell(Added(x.correlation_id, n))
            else:
                self.tasks.append(send(pod, x, n))
                await asyncio.sleep(0)  # it has begun
            if dice.random() < 0.5:
                await asyncio.sleep(dice.random() * 0.004)
            if dice.random() < 0.05:
                pod.mail.loses = 1

    async def check(self) -> None:
        await asyncio.gather(*self.tasks)
        for pod in self.pods:
            await pod.runtime.settled()
        await until(lambda: not self.pods[0].world.table.rows)
        for pod, x in self.instances():
            assert list((await state_of(pod.runtime, x)).items) == self.sent.get(x.key, [])


async def _moves(dice: random.Random) -> None:
    patient: dict[str, Any] = {"retry_pause_s": 0.001, "write_attempts": 20}
    async with cluster(3, poll_s=0.02, shutdown_timeout_s=0.2, **patient) as pods:
        owner = [dice.choice(pods) for _ in range(SHARDS)]
        for shard in range(SHARDS):
            await owner[shard].own(shard)
        pods[0].world.bells.is_deaf = lambda channel, payload: dice.random() < 0.1
        crowd = Crowd(pods, dice)
        crowd.tasks += [send(pod, x, 0) for pod, x in crowd.instances()]
        senders = [asyncio.create_task(crowd.run(pod)) for pod in pods]
        for _ in range(8):
            await asyncio.sleep(dice.random() * 0.02)
            shard = dice.randrange(SHARDS)
            await owner[shard].leave(shard)
            owner[shard] = dice.choice(pods)
            await owner[shard].own(shard)
        await asyncio.gather(*senders)
        await crowd.check()
