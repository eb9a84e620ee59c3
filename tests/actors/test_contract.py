"""What pykka promises of an actor, asked of pykka's own actor and of ours alike."""

from __future__ import annotations

import logging
import threading
from queue import SimpleQueue
from typing import Any

import pykka
import pytest
from pykka import ActorDeadError, ActorRegistry, ThreadingActor

from perdure.actors import Actor

SECONDS = 5.0


@pytest.fixture(params=[ThreadingActor, Actor], ids=["pykka", "perdure"])
def recorder(request: pytest.FixtureRequest) -> type[Any]:
    base: Any = request.param

    class Recorder(base):  # type: ignore[misc]
        """Does what it is told by being sent a function of itself; reports its life to ``log``."""

        def __init__(self, log: SimpleQueue[Any]) -> None:
            super().__init__()
            self.log = log
            self.number = 0

        def on_start(self) -> None:
            self.log.put("start")

        def on_stop(self) -> None:
            self.log.put("stop")

        def on_failure(self, *exc_info: Any) -> None:
            self.log.put(("failure", exc_info[0]))

        def on_receive(self, message: Any) -> Any:
            if callable(message):
                return message(self)
            self.log.put(message)
            return message

        def add(self, number: int) -> int:
            self.number += number
            return self.number

    return Recorder


@pytest.fixture
def log() -> SimpleQueue[Any]:
    return SimpleQueue()


def next_of(log: SimpleQueue[Any]) -> Any:
    return log.get(timeout=SECONDS)


def fail(_: object) -> None:
    raise LookupError("as told")


def hold(ref: Any) -> threading.Event:
    """Keep the actor busy until the event that is returned is set."""
    release = threading.Event()
    ref.tell(lambda _: release.wait(SECONDS))
    return release


def test_on_start_comes_before_the_first_message(recorder: Any, log: SimpleQueue[Any]) -> None:
    ref = recorder.start(log)
    assert ref.ask("hello", timeout=SECONDS) == "hello"
    assert [next_of(log), next_of(log)] == ["start", "hello"]


def test_messages_of_one_sender_keep_their_order(recorder: Any, log: SimpleQueue[Any]) -> None:
    ref = recorder.start(log)
    for number in range(500):
        ref.tell(number)
    ref.ask("end", timeout=SECONDS)
    assert [next_of(log) for _ in range(501)] == ["start", *range(500)]


def test_a_registered_actor_is_found_until_it_stops(recorder: Any, log: SimpleQueue[Any]) -> None:
    ref = recorder.start(log)
    assert ref in ActorRegistry.get_all()
    assert ref.stop(timeout=SECONDS) is True
    assert ActorRegistry.get_by_urn(ref.actor_urn) is None
    assert ref.actor_stopped.wait(SECONDS)
    assert not ref.is_alive()


def test_an_exception_goes_to_the_asker_and_the_actor_lives(
    recorder: Any, log: SimpleQueue[Any]
) -> None:
    ref = recorder.start(log)
    with pytest.raises(LookupError, match="as told"):
        ref.ask(fail, timeout=SECONDS)
    assert ref.ask("still here", timeout=SECONDS) == "still here"


def test_an_exception_on_a_tell_is_logged_and_ends_the_actor(
    recorder: Any, log: SimpleQueue[Any], caplog: pytest.LogCaptureFixture
) -> None:
    ref = recorder.start(log)
    with caplog.at_level(logging.ERROR):
        ref.tell(fail)
        assert [next_of(log), next_of(log)] == ["start", ("failure", LookupError)]
    assert f"Unhandled exception in {ref}:" in caplog.text
    assert not ref.is_alive()
    assert ref not in ActorRegistry.get_all()
    with pytest.raises(ActorDeadError):
        ref.tell("too late")
    with pytest.raises(ActorDeadError):
        ref.ask("too late", timeout=SECONDS)


def test_a_failing_start_stops_the_actor(
    recorder: Any, log: SimpleQueue[Any], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.CRITICAL):
        failing: Any = type("Failing", (recorder,), {"on_start": fail})
        ref = failing.start(log)
        assert ref.actor_stopped.wait(SECONDS)
    with pytest.raises(ActorDeadError):
        ref.ask("anybody?", timeout=SECONDS)


def test_mail_before_stop_is_handled_and_mail_after_it_is_not(
    recorder: Any, log: SimpleQueue[Any]
) -> None:
    ref = recorder.start(log)
    release = hold(ref)
    before = ref.ask("before", block=False)
    stopping = [ref.stop(block=False), ref.stop(block=False)]
    after = ref.ask("after", block=False)
    release.set()
    assert before.get(timeout=SECONDS) == "before"
    assert [future.get(timeout=SECONDS) for future in stopping] == [True, True]
    with pytest.raises(ActorDeadError):
        after.get(timeout=SECONDS)
    assert [next_of(log), next_of(log), next_of(log)] == ["start", "before", "stop"]
    assert ref.stop(timeout=SECONDS) is False


def test_an_actor_can_stop_itself_and_handles_what_came_before(
    recorder: Any, log: SimpleQueue[Any]
) -> None:
    ref = recorder.start(log)

    def tell_then_stop(actor: Any) -> None:
        actor.actor_ref.tell("last")
        actor.stop()

    ref.tell(tell_then_stop)
    assert [next_of(log), next_of(log), next_of(log)] == ["start", "last", "stop"]


def test_a_base_exception_stops_every_registered_actor(
    recorder: Any, log: SimpleQueue[Any]
) -> None:
    def leave(_: object) -> None:
        raise SystemExit

    other, ref = recorder.start(log), recorder.start(log)
    ref.tell(leave)
    assert other.actor_stopped.wait(SECONDS)
    assert ref.actor_stopped.wait(SECONDS)
    assert sorted(next_of(log) for _ in range(4)) == ["start", "start", "stop", "stop"]


def test_a_proxy_reads_writes_and_calls(recorder: Any, log: SimpleQueue[Any]) -> None:
    proxy = recorder.start(log).proxy()
    assert proxy.add(2).get(timeout=SECONDS) == 2
    proxy.number = 40
    assert proxy.add(2).get(timeout=SECONDS) == 42
    assert proxy.number.get(timeout=SECONDS) == 42
    proxy.add.defer(1)
    assert proxy.number.get(timeout=SECONDS) == 43


def test_futures_can_be_combined(recorder: Any, log: SimpleQueue[Any]) -> None:
    ref = recorder.start(log)
    one, two = ref.ask(1, block=False), ref.ask(2, block=False)
    assert one.map(lambda number: number + 1).get(timeout=SECONDS) == 2
    assert pykka.get_all([one.join(two)], timeout=SECONDS) == [[1, 2]]


def test_an_ask_times_out(recorder: Any, log: SimpleQueue[Any]) -> None:
    ref = recorder.start(log)
    release = hold(ref)
    with pytest.raises(pykka.Timeout):
        ref.ask("busy", timeout=0)
    release.set()


def test_a_future_is_a_value(recorder: Any, log: SimpleQueue[Any]) -> None:
    inner: pykka.ThreadingFuture[int] = pykka.ThreadingFuture()
    ref = recorder.start(log)
    assert ref.ask(lambda _: inner, timeout=SECONDS) is inner
