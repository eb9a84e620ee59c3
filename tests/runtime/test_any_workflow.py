"""Any small workflow, restarted anywhere, comes to the same end as one that runs straight through.

A program is a tree: steps (some fail), sleeps, waits with and without a limit, publications, one
after another or beside each other, with tidying up. The world around it is a list of days that
pass, events, a cancellation; the same for both runs, but for the restarts in between.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perdure import (
    Context,
    CoroutineWorkflow,
    Job,
    MemoryStore,
    NonRetryable,
    Runtime,
    Settings,
    StepFailed,
    step,
    workflow,
)
from perdure.errors import InstanceFinished
from perdure.testing import FaultyStore, SimulatedClock
from tests.effort import times
from tests.runtime.support import reopened
from tests.runtime.walks import DAY, Met, Passed, Set

patiently = settings(
    max_examples=times(150),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
Node = tuple[Any, ...]

LEAVES = st.one_of(
    st.tuples(st.just("step"), st.integers(0, 9)),
    st.tuples(st.just("step"), st.integers(0, 9)),
    st.tuples(st.just("fail"), st.integers(0, 9)),
    st.tuples(st.just("sleep"), st.integers(1, 4)),
    st.tuples(st.just("wait"), st.none() | st.integers(1, 4)),
    st.tuples(st.just("publish")),
    st.tuples(st.just("now")),
)
PROGRAMS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.tuples(st.just("one by one"), st.lists(inner, max_size=3)),
        st.tuples(st.just("beside"), st.lists(inner, max_size=3)),
        st.tuples(st.just("tidy"), inner),
    ),
    max_leaves=8,
)
WORLDS = st.lists(
    st.one_of(
        st.tuples(st.just("days"), st.integers(1, 3)),
        st.tuples(st.just("days"), st.integers(1, 3)),
        st.tuples(st.just("event"), st.sampled_from(["ann", "bob", "eve"])),
        st.tuples(st.just("event"), st.sampled_from(["ann", "bob", "eve"])),
        st.tuples(st.just("cancel"), st.just("tired")),
    ),
    max_size=8,
)
RESTARTS = st.lists(st.sampled_from(["go on", "restart", "passivate"]), min_size=9, max_size=9)


@dataclass
class Run:
    """One run of a program in a world."""

    program: Node
    performed: list[str] = field(default_factory=list)

    def saga(self) -> CoroutineWorkflow:
        @step(name="work")
        async def work(number: int, job: Job) -> int:
            self.performed.append(job.key)
            return number

        @step(name="break")
        async def breaking(number: int, job: Job) -> int:
            self.performed.append(job.key)
            raise NonRetryable(f"{number}")

        @workflow("any", Set, by="id", steps=[work, breaking], events={Met: "id"})
        async def any_program(ctx: Context, begun: Set) -> Any:
            return await self.perform(ctx, self.program, "0")

        return any_program

    async def perform(self, ctx: Context, node: Node, path: str) -> Any:
        kind, *parts = node
        match kind:
            case "one by one":
                return [await branch() for branch in self.branches(ctx, parts[0], path)]
            case "beside":
                branches = self.branches(ctx, parts[0], path)
                return await ctx.gather(*(branch() for branch in branches))
            case "tidy":
                try:
                    return await self.perform(ctx, parts[0], f"{path}.0")
                finally:
                    await ctx.step("work", 0, key=f"{path}.tidy")
            case _:
                return await self.leaf(ctx, kind, parts[0] if parts else None, path)

    def branches(self, ctx: Context, nodes: list[Node], path: str) -> list[Any]:
        return [
            partial(self.perform, ctx, one, f"{path}.{number}") for number, one in enumerate(nodes)
        ]

    async def leaf(self, ctx: Context, kind: str, what: Any, path: str) -> Any:
        match kind:
            case "step":
                return await ctx.step("work", what, key=path)
            case "fail":
                try:
                    return await ctx.step("break", what, key=path)
                except StepFailed as failure:
                    return failure.error
            case "sleep":
                await ctx.sleep(days=what, key=path)
            case "wait":
                limit = (99 if what is None else what) * DAY
                met = await ctx.wait_event(Met, timeout=limit, key=path)
                return None if met is None else met.whom
            case "publish":
                await ctx.publish(Passed(path), key=path)
            case "now":
                return ctx.now

    async def in_world(
        self, world: list[tuple[str, Any]], restarts: list[str], snapshot_every: int
    ) -> Any:
        """How the instance stands at the end, with all that was recorded of its operations."""
        store, clock = FaultyStore(MemoryStore()), SimulatedClock()

        def new_runtime() -> Runtime:
            given = Settings(snapshot_every=snapshot_every)
            return Runtime(store, [self.saga()], given, clock=clock)

        runtime = new_runtime()
        await runtime.start()
        await runtime.publish(Set("w"))
        for (kind, what), restart in zip([*world, ("days", 0)], restarts, strict=False):
            await clock.advance(timedelta(0))
            if restart == "restart":
                await runtime.stop()
                store, runtime = reopened(store), new_runtime()
                await runtime.start()
            elif restart == "passivate":
                runtime.ref("any", "w").stop(block=False)
            if kind == "days":
                await clock.advance(what * DAY)
            elif kind == "event":
                await runtime.publish(Met("w", what))
            else:
                with contextlib.suppress(InstanceFinished):
                    await runtime.cancel(runtime.ref("any", "w"), what)
        await clock.advance(timedelta(0))
        view = await runtime.state(runtime.ref("any", "w"))
        await runtime.stop()
        assert view is not None
        return view.status, view.result, view.failure, view.state, view.deadlines


@patiently
@given(program=PROGRAMS, world=WORLDS, restarts=RESTARTS, snapshot_every=st.sampled_from([1, 3]))
def test_restarts_make_no_difference(program, world, restarts, snapshot_every):
    async def both() -> None:
        async with asyncio.timeout(20):
            straight, restarted = Run(program), Run(program)
            expected = await straight.in_world(world, ["go on"] * 9, 1000)
            assert await restarted.in_world(world, restarts, snapshot_every) == expected
            assert restarted.performed == straight.performed
            assert len(set(straight.performed)) == len(straight.performed)

    asyncio.run(both())
