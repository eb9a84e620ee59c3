"""What the tests of waiting messages share: runtimes of sagas whose turns raise."""

from __future__ import annotations

from datetime import timedelta

from perdure import Runtime, Settings
from perdure.core.commit import InboxReason
from tests.sagas import (
    Begun,
    Flaky,
    Shaky,
)


def flaky(store, clock, *sagas, **settings) -> Runtime:
    return Runtime(store, sagas or [Flaky], Settings(**settings), clock=clock)


def seconds(n: float) -> timedelta:
    return timedelta(seconds=n)


async def begun(runtime, saga=Flaky, id="x"):
    ref = runtime.ref(saga, id)
    await runtime.send(ref, Begun(id))
    return ref


async def send(runtime, ref, n, fails=0, **more):
    receipt = await runtime.send(ref, Shaky("x", n, fails, **more), message_id=f"m-{n}")
    return receipt.outcome


async def reasons(store) -> list[tuple[str, InboxReason, int]]:
    return [(row.message_id, row.reason, row.attempts) for row in await store.inner.inbox()]


async def letters(store) -> list[tuple[str, str, int]]:
    found = await store.inner.dead_letters()
    return [(one.message_id, one.reason, one.attempts) for one in found]
