"""Many threads send while actors stop: every ask resolves, every tell is accounted for."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pykka
import pytest
from pykka import ActorDeadError

from perdure.actors import Actor, Envelope, Future

SENDERS, ROUNDS, MESSAGES = 6, 25, 40


class Tally(Actor):
    """Counts what it handled and what was refused on its behalf."""

    def __init__(self, counts: Counter[str]) -> None:
        super().__init__()
        self.counts = counts

    def on_receive(self, message: Any) -> Any:
        self.counts["handled" if message == "tell" else "asked"] += 1
        return self.work() if message == "async" else message

    async def work(self) -> str:
        await asyncio.sleep(0)
        return "async"

    def on_refused(self, envelope: Envelope[Any]) -> None:
        self.counts["refused"] += 1


def send(ref: pykka.ActorRef[Tally], meet: threading.Barrier) -> tuple[Counter[str], list[Any]]:
    """Half before the actor is stopped, the rest meanwhile, the last one afterwards."""
    counts, futures = Counter[str](), []
    for number in range(MESSAGES):
        if number in (MESSAGES // 2, MESSAGES - 1):
            meet.wait(10)
        try:
            ref.tell("tell")
            counts["told"] += 1
        except ActorDeadError:
            counts["raised"] += 1
        futures.append(ref.ask("async" if number % 5 == 0 else number, block=False))
    return counts, futures


def outcome(future: Future[Any]) -> str:
    try:
        future.get(timeout=20)
    except ActorDeadError:
        return "dead"
    return "answered"


@pytest.mark.parametrize("is_spawned", [False, True])
def test_every_message_is_accounted_for(is_spawned: bool) -> None:
    outcomes = Counter[str]()
    with ThreadPoolExecutor(SENDERS) as pool:
        for _ in range(ROUNDS):
            counts, meet = Counter[str](), threading.Barrier(SENDERS + 1)
            ref = Tally.spawn(counts).actor_ref if is_spawned else Tally.start(counts)
            sent = [pool.submit(send, ref, meet) for _ in range(SENDERS)]
            meet.wait(10)
            ref.stop(timeout=20)
            meet.wait(10)
            told = Counter[str]()
            for sender in sent:
                theirs, futures = sender.result(30)
                told += theirs
                outcomes += Counter(map(outcome, futures))
            # The mailbox of this loop is behind this ask: all that arrived late is counted.
            Tally.start(Counter()).ask("flush", timeout=20)
            assert counts["handled"] + counts["refused"] == told["told"]
            assert told["told"] + told["raised"] == SENDERS * MESSAGES
    assert sum(outcomes.values()) == ROUNDS * SENDERS * MESSAGES
    assert outcomes["answered"]
    assert outcomes["dead"]


def test_ended_actors_return_the_mail_that_other_threads_sent() -> None:
    async def send_and_end(pool: ThreadPoolExecutor, counts: Counter[str]) -> None:
        meet = threading.Barrier(SENDERS + 1)
        actor = Tally.spawn(counts)
        loop, ref = asyncio.get_running_loop(), actor.actor_ref
        sending = [loop.run_in_executor(pool, send, ref, meet) for _ in range(SENDERS)]
        await loop.run_in_executor(pool, meet.wait, 10)
        for envelope in actor.end():
            counts["returned"] += envelope.reply_to is None
            if envelope.reply_to is not None:
                envelope.reply_to.set("by the supervisor")
        await loop.run_in_executor(pool, meet.wait, 10)
        for theirs, futures in await asyncio.gather(*sending):
            counts += theirs
            outcomes.update([await asyncio.to_thread(outcome, future) for future in futures])

    async def test() -> None:
        with ThreadPoolExecutor(SENDERS + 1) as pool:
            for _ in range(ROUNDS):
                counts = Counter[str]()
                await send_and_end(pool, counts)
                handled = counts["handled"] + counts["returned"] + counts["refused"]
                assert handled == counts["told"]
                assert counts["told"] + counts["raised"] == SENDERS * MESSAGES

    outcomes = Counter[str]()
    asyncio.run(test())
    assert sum(outcomes.values()) == ROUNDS * SENDERS * MESSAGES


def test_threads_and_loops_ask_the_same_actor() -> None:
    counts = Counter[str]()
    ref = Tally.start(counts)

    async def ask_all() -> list[Any]:
        futures = [ref.ask(number, block=False) for number in range(50)]
        return [await future for future in futures]

    def ask_each() -> list[Any]:
        return [ref.ask(number, timeout=20) for number in range(50)]

    with ThreadPoolExecutor(SENDERS) as pool:
        loops = [pool.submit(asyncio.run, ask_all()) for _ in range(3)]
        threads = [pool.submit(ask_each) for _ in range(3)]
        for result in loops + threads:
            assert result.result(30) == list(range(50))
    assert counts["asked"] == 300
