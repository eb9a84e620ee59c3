"""One life of a runtime under load, up to where it is killed, or to its graceful end.

Runs in a process of its own, forked by ``zygote.py``. What it does is told to the outside world
(``ledger.py``), so that nothing of it is lost with the process.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import perdure.failpoints as failpoints
from perdure import Runtime, Settings
from perdure.errors import (
    OutcomeUnknown,
    PerdureError,
    PublishFailed,
    RuntimeNotRunning,
    StoreError,
)
from perdure.failpoints import Point
from tests.survival.ledger import Says
from tests.survival.mutants import MUTANTS
from tests.survival.places import waiting_in
from tests.survival.sagas import ATTEMPTS, CONTENT, Op, members

CLIENTS = 6
HEAL_S = 20.0
KINDS = (
    "append", "append", "count", "count", "spoil", "set", "unset", "order", "trip", "flow", "join",
)  # fmt: skip
NEVER = 9
PERHAPS = (OutcomeUnknown, StoreError, RuntimeNotRunning, PublishFailed)
HOSTILE: dict[str, Any] = {
    "residents_max": 2, "idle_after_s": 0.001, "mailbox_max": 3, "rehydrations_max": 2,
    "queue_window": 3, "deadline_page": 2, "deadlines_in_flight_max": 2, "retry_pause_s": 0.002,
}  # fmt: skip


@dataclass
class Life:
    """How it is lived. ``point`` and ``nth`` say where it is killed; ``ops`` are sent first.

    One that ``heals`` sends nothing new, and waits until nothing waits. One that ``serves`` does so
    until SIGTERM, which is blocked until then, and stops gracefully.
    """

    url: str
    outside: str
    seed: str
    settings: dict[str, Any] = field(default_factory=dict)
    point: str = ""
    nth: int = 0
    ops: list[Op] = field(default_factory=list)
    quota: int = 60
    kinds: tuple[str, ...] = KINDS
    heals: bool = False
    serves: bool = False
    mutant: str = ""


class Killer:
    """Kills this process when a point is reached for the nth time."""

    def __init__(self, point: str, nth: int) -> None:
        self._point = Point(point)
        self._left = nth

    def __call__(self, point: Point) -> None:
        if point is self._point:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


def live(life: Life, outside: Says, started: Callable[[], None]) -> None:
    """Live it, and tell when its runtime has started. Returns only if nothing kills the process."""
    logging.disable(logging.CRITICAL)
    if life.mutant:
        MUTANTS[life.mutant].plant()
    if life.point:
        failpoints.listener = Killer(life.point, life.nth)
    asyncio.run(_live(life, outside, started))


async def _live(life: Life, outside: Says, started: Callable[[], None]) -> None:
    settings = Settings(**{**HOSTILE, **life.settings})
    runtime = Runtime(life.url, members(), settings, resources={"outside": outside})
    stopping = asyncio.Event()
    if life.serves:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    async with runtime:
        started()
        fresh = () if life.heals else itertools.islice(operations_of(life), life.quota)
        clients = Clients(runtime, outside, life, itertools.chain(_again(life), fresh))
        if life.serves:
            await stopping.wait()
            clients.stop()
        else:
            await clients.done()
        if life.heals:
            await _healed(life.url)
        begun = time.monotonic()
    outside.say("stopped", time.monotonic() - begun)
    await clients.done()


def _again(life: Life) -> Iterator[Op]:
    return (Op(*op) for op in life.ops)


def operations_of(life: Life) -> Iterator[Op]:
    """A life's operations, all of them new."""
    chance = random.Random(life.seed)
    for number in itertools.count():
        id, kind = f"{life.seed}.{number}", chance.choice(life.kinds)
        match kind:
            case "append" | "count" | "set" | "unset" | "book":
                after_ms = chance.choice((0, 1, 3, 10, 30))
                yield Op(id, kind, str(chance.randrange(2)), after_ms)
            case "spoil":
                yield Op(id, kind, "0", chance.choice((1, ATTEMPTS)))
            case "trip":
                yield Op(id, kind, id, chance.choice((0, 1, 2, 2, NEVER)))
            case "join":
                for side in chance.sample(("left", "right"), 2):
                    yield Op(f"{id}.{side}", side, id, 0)
            case _:
                yield Op(id, kind, id, chance.randrange(20))


class Clients:
    """Some clients that share the operations; each sends one after another, at times twice."""

    def __init__(
        self, runtime: Runtime, outside: Says, life: Life, operations: Iterator[Op]
    ) -> None:
        self._runtime = runtime
        self._outside = outside
        self._operations = operations
        self._chance = random.Random(life.seed)
        self._is_stopped = False
        self._tasks = [asyncio.create_task(self._send()) for _ in range(CLIENTS)]

    def stop(self) -> None:
        self._is_stopped = True

    async def done(self) -> None:
        await asyncio.gather(*self._tasks)

    async def _send(self) -> None:
        for op in self._operations:
            for _ in range(self._chance.choice((1, 1, 1, 1, 1, 2, 3))):
                await self._perform(op)
            if self._is_stopped:
                return

    async def _perform(self, op: Op) -> None:
        say = self._outside.say
        say("try", *op)
        try:
            [receipt] = await self._runtime.publish(CONTENT[op.kind](op), message_id=op.id)
        except PERHAPS as error:
            say("unknown", op.id, type(error).__name__)
        except PerdureError as error:
            say("refused", op.id, type(error).__name__)
        else:
            answer = receipt.outcome, receipt.sequence_nr, receipt.reply, receipt.duplicate
            say("ack", op.id, *answer)


async def _healed(url: str) -> None:
    """Nothing is killed any more: wait until nothing waits, for so long at most."""
    async with waiting_in(url) as waiting:
        for _ in range(int(HEAL_S / 0.01)):
            if not await waiting():
                return
            await asyncio.sleep(0.01)
