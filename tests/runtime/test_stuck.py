"""Instances that cannot go on by themselves: listed, alive, and freed again."""

from __future__ import annotations

from dataclasses import dataclass

from perdure import ProcessManager, Runtime, Settings, Status, continues, message, starts
from tests.runtime.support import quickly, reopened, view_of


@message(name="stuck-test.Asked")
class Asked:
    id: str


@message(name="stuck-test.Answered")
class Answered:
    id: str


@dataclass(frozen=True)
class Nothing:
    pass


class Question(ProcessManager[Nothing]):
    name = "Question"

    @starts(Asked, by="id")
    def asked(self, state, event, do):
        do.stuck(f"nobody knows {event.id}")

    @continues(Answered, by="id")
    def answered(self, state, event, do):
        pass


async def listed(runtime, status):
    return [view.correlation_id async for view in runtime.instances(Question, status=status)]


@quickly
async def test_a_stuck_instance_is_listed_with_its_reason_and_freed_by_a_later_turn(store):
    async with Runtime(store, [Question]) as runtime:
        await runtime.publish(Asked("why"))
        view = await view_of(runtime, runtime.ref(Question, "why"))
        assert (view.status, view.failure) == (Status.STUCK, "nobody knows why")
    async with Runtime(reopened(store), [Question]) as runtime:
        assert await listed(runtime, "stuck") == ["why"]
        assert await listed(runtime, "running") == []
        view = await view_of(runtime, runtime.ref(Question, "why"))
        assert (view.status, view.failure) == (Status.STUCK, "nobody knows why")
        await runtime.publish(Answered("why"))
        assert await listed(runtime, "stuck") == []
        assert await listed(runtime, "running") == ["why"]


@quickly
async def test_a_stuck_instance_has_no_snapshot_until_it_goes_on(memory):
    async with Runtime(memory, [Question], Settings(snapshot_every=1)) as runtime:
        await runtime.publish(Asked("why"))
        await runtime.settled()
        assert memory.inner._snapshots == {}
        await runtime.publish(Answered("why"))
        await runtime.settled()
        assert list(memory.inner._snapshots) == ["Question/why"]
