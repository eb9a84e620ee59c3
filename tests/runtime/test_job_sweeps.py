"""Whichever write fails, or is the last of its process: the end of the story is the same.

The story: a command fails, is tried again, fails for good; three compensating commands follow one
another, the second one fails for good, too; somebody mends what was broken and redrives both.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from perdure import Fixed, MemoryStore, NonRetryable, Runtime, Settings, SqlStore
from perdure.errors import StoreError
from perdure.store.protocol import Store
from tests.runtime.errands import (
    Asked,
    Desk,
    Done,
    ErrandState,
    Noticed,
    Undoing,
    desk,
    errand_of,
    letters,
    queue_of,
)
from tests.runtime.mortal import FATES, MortalStore, again, live
from tests.runtime.passing import PassingClock

FAR = timedelta(hours=12)
WRITES_MAX = 60
KEYS = {
    "runtime-test.undoing/e-1/1/0",
    *(f"runtime-test.undoing/e-1/2/{index}" for index in range(3)),
}


@dataclass
class Story:
    """One world: its rows, its time, what is broken in it, and what was done there."""

    store: MortalStore
    clock: PassingClock = field(default_factory=PassingClock)
    is_mended: bool = False
    undone: list[int] = field(default_factory=list)
    ghosts: list[str] = field(default_factory=list)
    attempts: list[tuple[str, int]] = field(default_factory=list)
    state: ErrandState = field(default_factory=ErrandState)
    letters_in_the_middle: list[str] = field(default_factory=list)

    def desk(self) -> Desk:
        return desk(do=self.do, **{"take back": self.take_back})

    def do(self, command, job):
        self.seen(job)
        if not self.is_mended:
            job.emit(Noticed(command.id, "given up"), anyway=True)
            raise ConnectionError("no answer")
        return Done(command.id)

    def take_back(self, command, job):
        self.seen(job)
        if command.step == 2 and not self.is_mended:
            raise NonRetryable("closed")
        self.undone.append(command.step)

    def seen(self, job):
        self.attempts.append((job.key, job.attempt))
        inner = self.store.inner
        if isinstance(inner, MemoryStore):  # G7: it is committed before anybody performs it
            rows = inner._jobs._outbox.values()
            self.ghosts += [job.key] if job.key not in {row.id for row in rows} else []

    def runtime(self) -> Runtime:
        queue = queue_of(retry=Fixed(60, max_attempts=3))
        return Runtime(
            self.store,
            [Undoing, queue],
            Settings(retry_pause_s=0.01),
            resources={"desk": self.desk()},
            clock=self.clock,
        )

    async def tell(self, runtime: Runtime) -> None:
        """Every step may be repeated, as by somebody who does not know how far it went."""
        await self.clock.during(runtime.publish(Asked("e-1"), message_id="m-1"))
        await self.clock.advance(FAR)
        if not self.is_mended:
            self.letters_in_the_middle = sorted([one.type for one in await letters(runtime)])
            assert await self.store.inner.inbox() == []
        self.is_mended = True
        for letter in await letters(runtime):
            try:
                await runtime.dead_letters.redrive(letter.id)
            except StoreError:
                await runtime.dead_letters.redrive(letter.id)
        await self.clock.advance(FAR)
        self.state = await errand_of(runtime, saga=Undoing)
        assert await letters(runtime) == []

    def live(self) -> bool:
        is_whole = live(self.runtime, self.store, self.tell, 5)
        self.clock.forget()
        return is_whole

    def check(self, lives: int) -> None:
        assert (self.state.done, self.state.failed) == (
            ("do",),
            ("exhausted", "non-retryable"),
        )
        assert self.state.noticed == ("given up",)
        assert self.letters_in_the_middle == ["runtime-test.do", "runtime-test.undo"]
        assert list(dict.fromkeys(self.undone)) == [1, 2, 3]
        assert self.undone == sorted(self.undone)
        assert len(self.undone) < 3 + lives
        assert self.ghosts == []
        assert {key for key, _ in self.attempts} == KEYS
        assert len(self.attempts) <= 3 + 1 + 4 + 2 * (lives - 1)


def told(inner: Store, fate, at: int) -> tuple[Story, int]:
    """The story over this store, with one misfortune; and how many writes its first life had."""
    story = Story(MortalStore(inner, fate, at))
    is_whole = story.live()
    writes = story.store.writes
    if not is_whole:
        story.store = again(story.store)
        assert story.live()
    story.check(lives=1 if is_whole else 2)
    return story, writes


@pytest.mark.parametrize("fate", FATES)
def test_whichever_write_fails_or_is_the_last_the_end_is_the_same(fate):
    _, writes = told(MemoryStore(), "fails", 0)
    assert 10 < writes < WRITES_MAX
    for at in range(1, writes + 1):
        story, _ = told(MemoryStore(), fate, at)
        assert story.store.inner._jobs._outbox == {}, f"write {at} of {writes}"  # type: ignore[attr-defined]
        assert story.store.inner._inbox == {}  # type: ignore[attr-defined]


@pytest.mark.slow
@pytest.mark.parametrize("fate", FATES)
def test_the_same_over_files(fate, tmp_path):
    def inner(at: int) -> SqlStore:
        return SqlStore(f"sqlite+aiosqlite:///{tmp_path}/{at}.db", synchronous="NORMAL")

    _, writes = told(inner(0), "fails", 0)
    for at in range(1, writes + 1):
        told(inner(at), fate, at)
