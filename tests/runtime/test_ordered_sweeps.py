"""Whichever write fails, or is the last of its process: a saga has the same end and history.

The story: three steps are done, the fourth fails; one is undone at a price, one cannot be undone
and is stuck; somebody mends that and resumes; the rest is undone. And a workflow: its second step
fails for good, and is resumed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from perdure import (
    Fixed,
    Job,
    MemoryStore,
    NonRetryable,
    OrderedSaga,
    Residue,
    Runtime,
    Settings,
    SqlStore,
    Status,
    Workflow,
    message,
)
from perdure.errors import StoreError
from perdure.store.protocol import Store
from tests.runtime.mortal import FATES, MortalStore, again, live
from tests.runtime.passing import PassingClock

FAR = timedelta(hours=12)
WRITES_MAX = 60
RETRY = Fixed(60, max_attempts=4)


@message(name="sweeps-test.Trip")
class Trip:
    id: str
    hotel: str = ""
    train: str = ""
    flight: str = ""


@dataclass
class Story:
    """One world: its rows, its time, what is broken in it, and what was done there."""

    store: MortalStore
    make: Callable[[Story], Any]
    clock: PassingClock = field(default_factory=PassingClock)
    is_mended: bool = False
    done: list[str] = field(default_factory=list)
    """The keys of what was really done, in order."""
    was_stuck: bool = False
    status: str = ""
    outcome: str = ""
    history: list[list[str]] = field(default_factory=list)

    def runtime(self) -> Runtime:
        return Runtime(
            self.store,
            [self.make(self)],
            Settings(retry_pause_s=0.01, snapshot_every=2),
            clock=self.clock,
        )

    def did(self, job: Job) -> None:
        self.done.append(job.key.partition("/t/")[2])

    async def tell(self, runtime: Runtime) -> None:
        """Every part may be repeated, as by somebody who does not know how far it went."""
        await self.clock.during(runtime.publish(Trip("t"), message_id="m-1"))
        await self.clock.advance(FAR)
        ref = runtime.ref("sweeps-test", "t")
        view = await runtime.state(ref)
        assert view is not None
        self.was_stuck |= view.status is Status.STUCK
        self.is_mended = True
        try:
            await self.clock.during(runtime.resume(ref, message_id="r-1"))
        except StoreError:
            await self.clock.during(runtime.resume(ref, message_id="r-1"))
        await self.clock.advance(FAR)
        view = await runtime.state(ref)
        assert view is not None
        self.status, self.outcome = view.status.value, view.state.outcome
        self.history = [
            [f"{type(one).__name__} {getattr(one, 'step', '')}".strip() for one in turn.events]
            async for turn in runtime.history(ref)
        ]

    def live(self) -> bool:
        is_whole = live(self.runtime, self.store, self.tell, 5)
        self.clock.forget()
        return is_whole


def trip(story: Story) -> OrderedSaga:
    saga = OrderedSaga("sweeps-test", Trip, by="id")

    def declare(name: str, undo: bool = True) -> None:
        @saga.step(name=name, retry=RETRY, nothing_to_undo=not undo)
        async def perform(trip: Trip, job: Job) -> Any:
            if name == "flight" and job.attempt == 1:
                raise ConnectionError("no answer")
            if name == "flight":
                raise NonRetryable("full")
            story.did(job)
            return {name: "booked"} if undo else None

        async def take_back(trip: Trip, job: Job) -> Any:
            if name == "hotel" and not story.is_mended:
                raise NonRetryable("closed")
            story.did(job)
            return Residue("fee", 5) if name == "train" else None

        if undo:
            saga.compensates(name, retry=RETRY)(take_back)

    declare("visa", undo=False)
    for name in ("hotel", "train", "flight"):
        declare(name)
    return saga


def documents(story: Story) -> Workflow:
    async def hotel(trip: Trip, job: Job) -> Any:
        story.did(job)
        return {"hotel": "read"}

    async def train(trip: Trip, job: Job) -> Any:
        if not story.is_mended:
            raise NonRetryable("no key")
        story.did(job)
        return {"train": trip.hotel}

    def flight(trip: Trip, job: Job) -> Any:
        story.did(job)
        return {"flight": trip.train}

    return Workflow("sweeps-test", Trip, by="id", steps=[hotel, train, flight])


MAKERS = {"saga": trip, "workflow": documents}
DONE = {
    "saga": ["visa", "hotel", "train", "train/undo", "hotel/undo"],
    "workflow": ["hotel", "train", "flight"],
}


def told(inner: Store, what: str, fate: Any, at: int) -> tuple[Story, int]:
    """The story over this store, with one misfortune; and how many writes its first life had."""
    story = Story(MortalStore(inner, fate, at), MAKERS[what])
    is_whole = story.live()
    writes = story.store.writes
    if not is_whole:
        story.store = again(story.store)
        assert story.live()
    counts = Counter(story.done)
    assert list(dict.fromkeys(story.done)) == DONE[what]
    assert story.was_stuck
    if is_whole:
        assert story.done == DONE[what]
    else:
        repeated = [key for key, count in counts.items() if count > 1]
        assert len(repeated) <= 1, "only what was under way"
        assert max(counts.values()) <= 2
    return story, writes


@pytest.mark.parametrize("what", MAKERS)
@pytest.mark.parametrize("fate", FATES)
def test_whichever_write_fails_or_is_the_last_the_history_is_the_same(fate, what):
    plain, writes = told(MemoryStore(), what, fate, 0)
    assert (plain.status, plain.outcome) == {
        "saga": ("failed", "compensated with residue"),
        "workflow": ("completed", "completed"),
    }[what]
    assert 8 < writes < WRITES_MAX
    for at in range(1, writes + 1):
        story, _ = told(MemoryStore(), what, fate, at)
        assert story.history == plain.history, f"write {at} of {writes}"
        assert (story.status, story.outcome) == (plain.status, plain.outcome)
        assert story.store.inner._jobs._outbox == {}  # type: ignore[attr-defined]
        assert story.store.inner._inbox == {}  # type: ignore[attr-defined]


@pytest.mark.slow
@pytest.mark.parametrize("fate", FATES[2:])
def test_the_same_over_files(fate, tmp_path):
    def inner(at: int) -> SqlStore:
        return SqlStore(f"sqlite+aiosqlite:///{tmp_path}/{at}.db", synchronous="NORMAL")

    plain, writes = told(inner(0), "saga", fate, 0)
    for at in range(1, writes + 1):
        story, _ = told(inner(at), "saga", fate, at)
        assert story.history == plain.history
