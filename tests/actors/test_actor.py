"""What our actor does beyond pykka's: async work, spawning, ending, and staying small."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pykka
import pytest
from pykka import ActorDeadError, ActorRegistry

from perdure.actors import Actor, Envelope, RunQueue, is_stop
from tests.actors.until import until

BASE_EXCEPTIONS = [SystemExit, KeyboardInterrupt, asyncio.CancelledError, GeneratorExit]


class Performer(Actor):
    """Does what it is sent; keeps what happened to it."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[object] = []
        self.refused: list[object] = []

    def on_stop(self) -> None:
        self.seen.append("stop")

    def on_failure(self, *exc_info: Any) -> None:
        self.seen.append(exc_info[0])

    def on_refused(self, envelope: Envelope[Any]) -> None:
        self.refused.append(envelope.message)

    def on_receive(self, message: Any) -> Any:
        if callable(message):
            return message()
        self.seen.append(message)
        return message

    async def double(self, number: int) -> int:
        await asyncio.sleep(0)
        return 2 * number


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(10):
            await test()

    asyncio.run(bounded())


def raising(error: type[BaseException]) -> Callable[[], None]:
    def do_raise() -> None:
        raise error

    return do_raise


def test_mail_waits_while_async_work_is_done() -> None:
    async def test() -> None:
        gate = asyncio.Event()
        actor = Performer.spawn()

        async def work() -> str:
            await gate.wait()
            actor.seen.append("work")
            return "done"

        working = actor.actor_ref.ask(work, block=False)
        later = actor.actor_ref.ask("later", block=False)
        for _ in range(5):
            await asyncio.sleep(0)
        assert actor.seen == []
        assert not actor.is_idle
        gate.set()
        assert await working == "done"
        assert await later == "later"
        assert actor.seen == ["work", "later"]

    run(test)


def test_async_methods_are_awaited_through_a_proxy() -> None:
    async def test() -> None:
        proxy = Performer.start().proxy()
        doubled = [proxy.double(number) for number in range(3)]
        assert await asyncio.gather(*map(wrap, doubled)) == [0, 2, 4]
        await proxy.actor_ref.stop(block=False)

    async def wrap(future: Awaitable[int]) -> int:
        return await future

    run(test)


def test_an_exception_of_async_work_goes_to_the_asker_or_ends_the_actor() -> None:
    async def fail() -> None:
        await asyncio.sleep(0)
        raise LookupError

    async def test() -> None:
        actor = Performer.spawn()
        with pytest.raises(LookupError):
            await actor.actor_ref.ask(fail, block=False)
        actor.actor_ref.tell(fail)
        with pytest.raises(ActorDeadError):
            await actor.actor_ref.ask("next", block=False)
        assert actor.seen == [LookupError]

    run(test)


@pytest.mark.parametrize("error", BASE_EXCEPTIONS)
@pytest.mark.parametrize("is_async", [False, True])
def test_a_base_exception_ends_a_spawned_actor_and_no_other(
    error: type[BaseException], is_async: bool
) -> None:
    async def later() -> None:
        await asyncio.sleep(0)
        raise error

    async def test() -> None:
        root, neighbour, actor = Performer.start(), Performer.spawn(), Performer.spawn()
        asked = actor.actor_ref.ask(later if is_async else raising(error), block=False)
        with pytest.raises(ActorDeadError) as raised:
            await asked
        assert isinstance(raised.value.__cause__, error)
        assert actor.seen == [error]
        assert not actor.actor_ref.is_alive()
        for survivor in (root, neighbour.actor_ref):
            assert await survivor.ask("alive", block=False) == "alive"
        await root.stop(block=False)

    run(test)


def test_a_spawned_actor_is_not_registered_and_its_names_are_made_when_asked_for() -> None:
    async def test() -> None:
        actor = Performer.spawn()
        assert ActorRegistry.get_all() == []
        assert actor.actor_ref is actor.actor_ref
        assert actor.actor_ref.actor_urn == actor.actor_urn
        assert actor.actor_urn.startswith("urn:uuid:")
        assert actor.actor_urn != Performer.spawn().actor_urn

    run(test)


def test_stopping_a_spawned_actor_leaves_the_registry_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def test() -> None:
        actor = Performer.spawn()
        assert await actor.actor_ref.stop(block=False)
        assert actor.seen == ["stop"]

    monkeypatch.setattr(ActorRegistry, "unregister", raising(AssertionError))
    run(test)


def test_end_returns_the_mail_and_calls_no_hook() -> None:
    async def test() -> None:
        actor = Performer.spawn()
        ref = actor.actor_ref
        asked = ref.ask("two", block=False)
        envelopes = [Envelope("one"), Envelope("three")]
        for envelope in envelopes:
            ref.actor_inbox.put(envelope)
        ended = actor.end()
        assert [envelope.message for envelope in ended] == ["two", "one", "three"]
        assert actor.end() == []
        assert not ref.is_alive()
        ended[0].reply_to.set("by the supervisor")  # type: ignore[union-attr]
        assert await asked == "by the supervisor"
        await asyncio.sleep(0)
        assert actor.seen == []

    run(test)


@pytest.mark.parametrize("has_begun", [False, True])
def test_end_cancels_work_and_its_asker_hears_of_it(has_begun: bool) -> None:
    async def test() -> None:
        actor = Performer.spawn()
        asked = actor.actor_ref.ask(asyncio.Event().wait, block=False)
        await until(lambda: actor._work is not None)
        if has_begun:
            await asyncio.sleep(0)
        actor.end()
        with pytest.raises(ActorDeadError):
            await asked
        assert actor.seen == []

    run(test)


def test_work_cut_short_by_the_end_of_the_loop_fails_its_asker() -> None:
    futures = []

    async def test() -> None:
        actor = Performer.spawn()
        for _ in range(2):
            futures.append(actor.actor_ref.ask(asyncio.Event().wait, block=False))
        await until(lambda: actor._work is not None)

    asyncio.run(test())
    for future in futures:
        with pytest.raises(ActorDeadError):
            future.get(timeout=0)


def test_a_subclass_can_answer_later() -> None:
    class Patient(Actor):
        def __init__(self) -> None:
            super().__init__()
            self.held: list[Envelope[Any]] = []

        def receive_envelope(self, envelope: Envelope[Any]) -> Awaitable[object] | None:
            if is_stop(envelope):
                return super().receive_envelope(envelope)
            self.held.append(envelope)
            return None

    async def test() -> None:
        actor = Patient.spawn()
        asked = actor.actor_ref.ask("question", block=False)
        assert await actor.actor_ref.stop(block=False)
        (envelope,) = actor.held
        assert envelope.reply_to is not None
        envelope.reply_to.set("answer")
        assert await asked == "answer"

    run(test)


def test_a_waiting_tell_is_refused_aloud_when_the_actor_stops() -> None:
    async def test() -> None:
        actor = Performer.spawn()
        stopping = actor.actor_ref.stop(block=False)
        actor.actor_ref.tell("lost")
        assert await stopping
        assert actor.refused == ["lost"]

    run(test)


def test_idle_means_begun_and_nothing_to_do() -> None:
    async def test() -> None:
        actor = Performer.spawn()
        assert not actor.is_idle
        await asyncio.sleep(0)
        assert actor.is_idle
        actor.actor_ref.tell("mail")
        assert not actor.is_idle
        await asyncio.sleep(0)
        assert actor.is_idle
        actor.actor_inbox.suspend()
        assert not actor.is_idle

    run(test)


def test_mail_for_a_closed_loop_is_refused() -> None:
    async def make() -> Performer:
        actor = Performer.spawn()
        await asyncio.sleep(0)
        return actor

    actor = asyncio.run(make())
    with pytest.raises(ActorDeadError):
        actor.actor_ref.tell("anybody?")
    with pytest.raises(ActorDeadError):
        actor.actor_ref.ask("anybody?", timeout=1)
    assert not actor.actor_ref.is_alive()


def test_blocking_on_the_loop_is_an_error_at_once() -> None:
    async def test() -> None:
        ref = Performer.spawn().actor_ref
        with pytest.raises(RuntimeError, match="await it"):
            ref.ask("hello")

    run(test)


def test_actors_of_one_loop_share_its_run_queue() -> None:
    async def test() -> None:
        assert Performer.spawn()._run_queue is Performer.spawn()._run_queue is RunQueue.current()

    run(test)


def test_pykkas_proxies_and_registry_reach_a_started_actor() -> None:
    ref = Performer.start()
    pykka.ActorRegistry.broadcast("all", Performer)
    assert ref.proxy().seen.get(timeout=5) == ["all"]
