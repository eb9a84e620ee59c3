"""What a sender and the log are told of a message whose turn raised."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

import pytest

from perdure import Effects, ProcessManager, Runtime, continues, on_deadline, starts
from perdure.errors import HandlerFailed, InvalidEffect, Unroutable
from tests.runtime.errands import Asked, desk, errands, letters, queue_of
from tests.runtime.flaky import begun, flaky, seconds, send
from tests.runtime.support import items, ledgers, open_ledger, quickly
from tests.sagas import STRIKES, TRIED, Added, Armed, LedgerState, Opened, Struck


@pytest.fixture(autouse=True)
def _nothing_tried():
    TRIED.clear()


@pytest.fixture(autouse=True)
def _logged(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever other tests have done to the loggers."""
    caplog.set_level(logging.WARNING, "perdure.workers")
    caplog.set_level(logging.WARNING, "perdure.saga")


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("again", ["redriven", "sent"])
@quickly
async def test_who_does_what_the_error_says_has_the_message_applied_once(store, again):
    async with ledgers(store) as runtime:
        ref = await open_ledger(runtime)
        STRIKES["told"] = STRIKES["error"]
        with pytest.raises(HandlerFailed) as caught:
            await runtime.send(ref, Struck("x", "told"))
        (letter,) = await letters(runtime)
        assert caught.value.remedy == (
            "nothing of the turn was kept, and the message is a dead letter: mend the handler, "
            f"then redrive that (runtime.dead_letters), or send it under {letter.message_id!r} "
            "again"
        )
        STRIKES["told"] = lambda do: do.reply(do.metadata.message_id)
        if again == "sent":
            await runtime.send(ref, Struck("x", "told"), message_id=letter.message_id)
        assert await runtime.dead_letters.redrive_all() == 1
        await runtime.settled()
        turns = [turn.message_id async for turn in runtime.history(ref)]
        assert turns.count(letter.message_id) == 1
        assert await items(runtime, ref) == []


@quickly
async def test_an_effect_that_is_none_says_it_too_once(memory):
    refused = InvalidEffect("nonsense", remedy="do something else")

    def refuse(do: Effects) -> None:
        raise refused

    STRIKES["refused"] = refuse
    async with ledgers(memory) as runtime:
        ref = await open_ledger(runtime)
        for how in ("nonsense", "refused", "refused"):
            with pytest.raises(InvalidEffect) as caught:
                await runtime.send(ref, Struck("x", how), message_id=how)
            assert str(caught.value).count("the message is a dead letter") == 1
        assert "do something else; nothing of the turn was kept" in str(caught.value)


@quickly
async def test_a_command_that_nobody_takes_says_it_too(memory):
    async with errands(desk(), queue_of("a"), queue_of("b"), store=memory) as runtime:
        with pytest.raises(Unroutable, match=r"which one.*; nothing of the turn was kept.*'m-1'"):
            await runtime.publish(Asked("e-1"), message_id="m-1")


@quickly
async def test_of_a_message_that_is_tried_again_the_log_says_when(memory, clock, caplog):
    async with flaky(memory, clock) as runtime:
        ref = await begun(runtime)
        await send(runtime, ref, 1, fails=3)
        (line,) = said(caplog)
        due = clock.now + seconds(10)
        assert line == (
            "Flaky/x: handling runtime-test.shaky raised ValueError: shaken; nothing of the turn "
            f"was kept; this was attempt 1 of 3, the next one is at {due.isoformat()}"
        )
        await clock.advance(seconds(10))
        assert "attempt 2 of 3" in said(caplog)[1]
        await clock.advance(seconds(10))
        last = said(caplog)[2]
        assert "raised ValueError: shaken, at attempt 3, which was the last" in last
        assert "the message is a dead letter" in last
        assert all(record.exc_info for record in caplog.records)


class Timed(ProcessManager[LedgerState]):
    name = "told-test.timed"

    @starts(Opened, Armed, by="id")
    def opened(self, state: LedgerState, event: Any, do: Effects) -> None:
        do.deadline("late", timedelta(seconds=1))

    @continues(Added, by="id")
    def added(self, state: LedgerState, event: Added, do: Effects) -> None: ...

    @on_deadline("late")
    def late(self, state: LedgerState, do: Effects) -> None:
        raise ValueError("too late")


@quickly
async def test_of_a_deadline_it_says_to_set_it_again(memory, clock, caplog):
    async with Runtime(memory, [Timed], clock=clock) as runtime:
        await runtime.publish(Opened("x"))
        await clock.advance(seconds(2))
    (line,) = said(caplog)
    assert line.endswith("the deadline is gone: mend the handler, then set it again")
