"""A command failed for good, over the store: told, tried again, compensated once."""

from __future__ import annotations

from functools import partial

import pytest

from perdure import CommandFailed, Outcome, Runtime
from perdure.core.correlation import VerdictKind
from perdure.messages import AnyMessage, Message
from perdure.runtime.delivery import Delivery
from tests.runtime.flaky import begun, flaky, seconds
from tests.runtime.support import parts, quickly, reopened, view_of
from tests.sagas import (
    TRIED,
    Added,
    Careful,
    Opened,
    Ship,
)


@pytest.fixture(autouse=True)
def _nothing_tried():
    TRIED.clear()


@quickly
async def test_a_failed_command_is_compensated_once_also_by_a_turn_that_raises_first(store, clock):
    async with Runtime(store, [Careful], clock=clock) as runtime:
        ref = runtime.ref(Careful, "x")
        await runtime.send(ref, Opened("x"))
        content = CommandFailed(AnyMessage(Ship("x", 3)), "id", "q", "exhausted", "no", 5)
        told = partial(_tell, runtime, ref, "perdure.failed/id", content)
        assert await told() is Outcome.DELAYED
        assert [one async for e in runtime.history(ref) for one in e.sent] == []
        await runtime.stop()
    again = reopened(store)
    async with Runtime(again, [Careful], clock=clock) as runtime:
        await clock.advance(seconds(10))
        ref = runtime.ref(Careful, "x")
        assert (await view_of(runtime, ref)).state.items == (3,)
        entry = [e async for e in runtime.history(ref)][-1]
        assert [one.content for one in entry.sent] == [Added("x", n) for n in range(3)]
        assert await _tell(runtime, ref, "perdure.failed/id", content) is Outcome.APPLIED
        rows = await again.inner.outbox()
        assert [row.after for row in rows] == [0, rows[0].position, rows[1].position]
        assert len(rows) == 3


@quickly
async def test_a_failed_command_that_concerns_nobody_is_journaled_and_logged(store, clock, caplog):
    async with flaky(store, clock) as runtime:
        ref = await begun(runtime)
        content = CommandFailed(AnyMessage(Ship("x", 3)), "id", "q", "exhausted", "no", 5)
        assert await _tell(runtime, ref, "perdure.failed/id", content) is Outcome.UNHANDLED
        assert "nobody handles CommandFailed" in caplog.text
        assert [entry.outcome async for entry in runtime.history(ref)][-1] is Outcome.UNHANDLED


async def _tell(runtime, ref, message_id, content):
    """As the dispatcher does."""
    message = Message(content, *parts(runtime).services.codec.encode(content), message_id, 0)
    definition = runtime._blueprint.routing.definition(ref.saga)
    delivery = Delivery(definition, ref.key, message, VerdictKind.CONTINUE)
    return (await parts(runtime).deliver(delivery)).outcome
