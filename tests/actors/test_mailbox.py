"""Mail that waits, and mail that is refused."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from pykka import ActorDeadError, messages

from perdure.actors import Envelope, Future, Mailbox, RunQueue

STOP = messages._ActorStop()


class Reader:
    """Counts its turns, and takes nothing unless told to."""

    def __init__(self) -> None:
        self.turns = 0
        self.refused: list[object] = []
        self.mailbox = Mailbox(self, RunQueue.current())

    def run_burst(self, limit: int) -> bool:
        self.turns += 1
        return False

    def on_unreachable(self) -> None:
        self.mailbox.close()

    def on_refused(self, envelope: Envelope[Any]) -> None:
        self.refused.append(envelope.message)


def on_a_loop(test: Callable[[Reader], Any]) -> Reader:
    async def main() -> Reader:
        reader = Reader()
        result = test(reader)
        if result is not None:
            await result
        return reader

    return asyncio.run(main())


def ask(message: object) -> tuple[Envelope[Any], Future[Any]]:
    future: Future[Any] = Future()
    return Envelope(message, reply_to=future), future


def test_mail_is_taken_in_order_and_an_empty_mailbox_owns_no_queue() -> None:
    def test(reader: Reader) -> None:
        mailbox = reader.mailbox
        assert mailbox.empty()
        for number in range(3):
            mailbox.put(Envelope(number))
        assert not mailbox.empty()
        assert [mailbox.get().message for _ in range(3)] == [0, 1, 2]
        assert mailbox.empty()
        assert mailbox._envelopes is None
        with pytest.raises(queue.Empty):
            mailbox.get()

    on_a_loop(test)


def test_only_mail_for_a_parked_mailbox_schedules_the_reader() -> None:
    async def test(reader: Reader) -> None:
        mailbox = reader.mailbox
        mailbox.put(Envelope("before the first turn"))
        await asyncio.sleep(0)
        assert reader.turns == 0
        while mailbox.take():
            pass
        assert mailbox.is_idle
        mailbox.put(Envelope(1))
        mailbox.put(Envelope(2))
        assert not mailbox.is_idle
        await asyncio.sleep(0)
        assert reader.turns == 1

    on_a_loop(test)


def test_a_suspended_mailbox_accumulates() -> None:
    async def test(reader: Reader) -> None:
        mailbox = reader.mailbox
        assert mailbox.take() is None
        mailbox.suspend()
        mailbox.put(Envelope(1))
        assert mailbox.take() is None
        await asyncio.sleep(0)
        assert reader.turns == 0
        assert not mailbox.is_idle
        mailbox.resume()
        mailbox.resume()
        await asyncio.sleep(0)
        assert reader.turns == 1
        assert [envelope.message for envelope in mailbox.take_all()] == [1]

    on_a_loop(test)


def test_close_answers_everybody_who_waits() -> None:
    def test(reader: Reader) -> None:
        (asked, reply), (stop, stopped) = ask("question"), ask(STOP)
        for envelope in (asked, Envelope("told"), stop, Envelope(STOP)):
            reader.mailbox.put(envelope)
        reader.mailbox.close()
        assert reader.mailbox.is_closed
        assert stopped.get(timeout=0) is None
        with pytest.raises(ActorDeadError):
            reply.get(timeout=0)
        assert reader.refused == ["told"]

    on_a_loop(test)


def test_a_closed_mailbox_refuses_at_once() -> None:
    def test(reader: Reader) -> None:
        reader.mailbox.close()
        (asked, reply), (stop, stopped) = ask("question"), ask(STOP)
        reader.mailbox.put(asked)
        reader.mailbox.put(stop)
        with pytest.raises(ActorDeadError):
            reader.mailbox.put(Envelope("told"))
        assert stopped.get(timeout=0) is None
        with pytest.raises(ActorDeadError):
            reply.get(timeout=0)
        assert reader.refused == []

    on_a_loop(test)


def test_a_future_resolved_by_somebody_else_is_left_alone() -> None:
    def test(reader: Reader) -> None:
        asked, reply = ask("question")
        reply.set("answered elsewhere")
        reader.mailbox.put(asked)
        reader.mailbox.close()
        assert reply.get() == "answered elsewhere"

    on_a_loop(test)


def test_seal_hands_the_mail_over() -> None:
    def test(reader: Reader) -> None:
        reader.mailbox.put(Envelope(1))
        assert [envelope.message for envelope in reader.mailbox.seal()] == [1]
        assert reader.mailbox.seal() == []
        with pytest.raises(ActorDeadError):
            reader.mailbox.put(Envelope(2))
        assert reader.refused == []

    on_a_loop(test)


def test_mail_of_another_thread_counts_from_the_moment_put_returns() -> None:
    async def test(reader: Reader) -> None:
        put = reader.mailbox.put
        asyncio.get_running_loop().run_in_executor(None, put, Envelope(1))
        while not RunQueue.current().arrivals:
            pass  # Not awaiting: the loop must have no occasion to admit it.
        put(Envelope(2))
        assert [envelope.message for envelope in reader.mailbox.seal()] == [1, 2]

    on_a_loop(test)


def test_mail_of_another_thread_that_arrives_after_close_is_refused() -> None:
    async def test(reader: Reader) -> None:
        mailbox, run_queue = reader.mailbox, RunQueue.current()
        asked, reply = ask("question")
        for envelope in (asked, Envelope("told")):
            # What ``put`` does in another thread that has just seen the mailbox open.
            run_queue.arrivals.append(partial(mailbox._arrive, reader, envelope))
        mailbox._reader = None
        run_queue.admit()
        with pytest.raises(ActorDeadError):
            reply.get(timeout=0)
        assert reader.refused == ["told"]

    on_a_loop(test)


def test_a_closed_loop_refuses_new_mail_and_what_was_waiting() -> None:
    asked, reply = ask("waits")
    reader = on_a_loop(lambda reader: reader.mailbox.put(asked))
    with pytest.raises(ActorDeadError):
        reader.mailbox.put(Envelope("new"))
    with pytest.raises(ActorDeadError):
        reply.get(timeout=0)
    assert reader.mailbox.is_closed
