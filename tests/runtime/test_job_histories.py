"""Whatever happens to jobs in whatever order: each has one end, and the tables agree."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perdure import Fixed, MemoryStore, NonRetryable, Runtime, Settings
from perdure.errors import PerdureError
from perdure.testing import FaultyStore
from tests.effort import times
from tests.runtime.errands import Asked, Do, Done, Undoing, desk, letters, queue_of
from tests.runtime.passing import PassingClock

HOWS = ("fine", "fails once", "fails", "poison", "hangs", "hangs once")
READS = ("jobs_ready", "jobs_due", "jobs_at", "jobs_after", "load", "journal")

IDS = st.sampled_from(["a", "b", "c"])
STEPS = st.one_of(
    st.tuples(st.just("ask"), IDS, st.sampled_from(HOWS), st.integers(1, 3)),
    st.tuples(st.just("enqueue"), IDS, st.sampled_from(HOWS)),
    st.tuples(st.just("pause")),
    st.tuples(st.just("resume")),
    st.tuples(st.just("cancel"), st.integers(0, 5)),
    st.tuples(st.just("redrive")),
    st.tuples(st.just("pass"), st.sampled_from([0.001, 1.0, 31.0])),
    st.tuples(st.just("fail write"), st.booleans()),
    st.tuples(st.just("fail read"), st.sampled_from(READS)),
    st.tuples(st.just("turn"), st.integers(1, 40)),
)


class ImpatientClock(PassingClock):
    """Workers hang here: it gives what is under way some turns of the loop, then passes on."""

    async def settle(self) -> None:
        settling = asyncio.ensure_future(super().settle())
        for _ in range(100):
            if settling.done():
                break
            await asyncio.sleep(0)
        settling.cancel()
        await asyncio.wait([settling])


@dataclass
class World:
    """A runtime that is restarted now and then, and what its workers did."""

    window: int
    is_sequential: bool
    store: FaultyStore = field(default_factory=lambda: FaultyStore(MemoryStore()))
    clock: ImpatientClock = field(default_factory=ImpatientClock)
    is_mended: bool = False
    begun: Counter[str] = field(default_factory=Counter)
    number: int = 0
    doing: list[asyncio.Task[Any]] = field(default_factory=list)

    async def do(self, command: Do, job: Any) -> Done | None:
        self.begun[job.key] += 1
        how = command.how
        if self.is_mended:
            return Done(command.id) if job.saga else None
        if how == "poison":
            raise NonRetryable(how)
        if how == "fails" or (how == "fails once" and job.attempt == 1):
            raise ConnectionError(how)
        if how == "hangs" or (how == "hangs once" and job.attempt == 1):
            await asyncio.Event().wait()
        return Done(command.id) if job.saga else None

    def take_back(self, command: Any, job: Any) -> None:
        self.begun[job.key] += 1
        if not self.is_mended and command.step == 2 and command.id == "b":
            raise ConnectionError("closed")

    def runtime(self) -> Runtime:
        where = desk(**dict.fromkeys(HOWS, self.do), **{"take back": self.take_back})
        concurrency = 1 if self.is_sequential else 2
        queue = queue_of(
            retry=Fixed(1, max_attempts=2),
            lease_s=30,
            concurrency=concurrency,
            sequential=self.is_sequential,
        )
        return Runtime(
            self.store,
            [Undoing, queue],
            Settings(
                queue_window=self.window,
                retry_pause_s=0.01,
                shutdown_timeout_s=0.005,
                residents_max=2,
                write_attempts=5,
            ),
            resources={"desk": where},
            clock=self.clock,
        )

    async def step(self, runtime: Runtime, step: tuple[Any, ...]) -> None:
        name, *args = step
        work = self.work(runtime, name, args)
        if work is not None:
            self.begin(work)
        elif name == "pass":
            await self.clock.advance(timedelta(seconds=args[0]))
        elif name == "fail write":
            self.store.fail_writes(1, after_commit=args[0])
        elif name == "fail read":
            self.store.fail_reads(1, operation=args[0])
        elif name == "turn":
            for _ in range(args[0]):
                await asyncio.sleep(0)

    def work(self, runtime: Runtime, name: str, args: list[Any]) -> Any:
        """What somebody outside asks of the runtime; None if the step is none of that kind."""
        queue = runtime.queue("work")
        match name:
            case "ask":
                self.number += 1
                return runtime.publish(Asked(*args), message_id=f"m-{self.number}")
            case "enqueue":
                return runtime.enqueue(Do(*args), job_id=f"free-{args[0]}")
            case "pause":
                return queue.pause()
            case "resume":
                return queue.resume()
            case "cancel":
                rows = self.store.inner._jobs._outbox.values()  # type: ignore[attr-defined]
                found = sorted(rows, key=lambda row: row.position)[args[0] : args[0] + 1]
                return queue.cancel(found[0].id) if found else None
            case "redrive":
                return runtime.dead_letters.redrive_all()
        return None

    def begin(self, work: Any) -> None:
        async def tolerant() -> None:
            with contextlib.suppress(PerdureError):
                await work

        self.doing.append(asyncio.create_task(tolerant()))

    async def live(self, lives: list[list[tuple[Any, ...]]]) -> None:
        for steps in lives:
            async with self.runtime() as runtime:
                for step in steps:
                    await self.step(runtime, step)
                self.store.heal()
            self.clock.forget()
            await self.finished()
        async with self.runtime() as runtime:
            await runtime.queue("work").resume()
            await self.clock.advance(timedelta(hours=1))
            self.is_mended = True
            await runtime.dead_letters.redrive_all()
            await self.clock.advance(timedelta(hours=1))
            await self.check(runtime)

    async def finished(self) -> None:
        if self.doing:
            _, late = await asyncio.wait(self.doing, timeout=2)
            assert not late, "somebody was never answered"
        self.doing = []

    async def check(self, runtime: Runtime) -> None:
        assert await self.store.inner.outbox() == []
        assert await self.store.inner.inbox() == []
        assert await letters(runtime) == []
        assert await runtime.queue("work").depth() == 0
        assert runtime.queue("work").running == 0
        sent: set[str] = set()
        for id in "abc":
            ref = runtime.ref(Undoing, id)
            history = [entry async for entry in runtime.history(ref)]
            ids = Counter(entry.message_id for entry in history)
            assert not [one for one, count in ids.items() if count > 1]
            keys = {
                f"{Undoing.name}/{id}/{entry.sequence_nr}/{index}"
                for entry in history
                for index, _ in enumerate(entry.sent)
            }
            dos = {
                f"{Undoing.name}/{id}/{entry.sequence_nr}/{index}"
                for entry in history
                for index, one in enumerate(entry.sent)
                if isinstance(one.content, Do)
            }
            for key in dos:  # everything was mended and redriven: each was done, once
                assert ids[f"perdure.result/{key}"] == 1
            sent |= keys
        for key in self.begun:
            assert key in sent or key.startswith("free-")
        assert sent <= set(self.begun)


@given(
    lives=st.lists(st.lists(STEPS, max_size=14), min_size=1, max_size=3),
    window=st.sampled_from([1, 3, 1000]),
    is_sequential=st.booleans(),
)
@settings(
    max_examples=times(60),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
def test_every_job_has_one_end_whatever_happens(lives, window, is_sequential):
    async def run() -> None:
        async with asyncio.timeout(20):
            await World(window, is_sequential).live(lives)

    asyncio.run(run())
