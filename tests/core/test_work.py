"""A work queue in memory: order, limits, pauses, and a window on the store that loses nothing."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from perdure.core.commit import OutboxKind, OutboxRow
from perdure.core.work import QueuePolicy, QueueState, Rate
from perdure.errors import DefinitionError
from tests.effort import times


def job(position: int, attempts: int = 0) -> OutboxRow:
    row = OutboxRow("Order/o", position, 0, OutboxKind.COMMAND, "q", "Pay", 1, b"", 0, position)
    row.attempts = attempts
    return row


def state_of(*positions: int, window: int = 1_000, **policy: Any) -> QueueState:
    state = QueueState(QueuePolicy(name="q", **policy), window)
    for position in positions:
        assert state.offer(job(position))
    return state


def take(state: QueueState, now_s: float = 0.0) -> int | None:
    row = state.take(now_s)
    return None if row is None else row.position


def test_the_lowest_position_starts_first_and_slots_are_limited() -> None:
    state = state_of(5, 3, 9, 4, concurrency=3)
    assert [take(state) for _ in range(4)] == [3, 4, 5, None]
    assert list(state.running) == [3, 4, 5]
    state.done(4)
    assert take(state) == 9
    assert state.waiting_count == 0


def test_a_row_that_is_known_is_not_taken_in_again() -> None:
    state = state_of(1, 2)
    first = job(1)
    assert take(state) == 1
    assert state.offer(first)
    assert state.offer(job(2))
    assert [take(state), take(state)] == [2, None]
    state.release(1)
    assert state.offer(first)
    assert take(state) is None
    state.done(1)
    assert state.offer(first)
    assert take(state) == 1


def test_a_released_slot_is_free_before_its_row_is_settled() -> None:
    state = state_of(1, 2, concurrency=1)
    assert [take(state), take(state)] == [1, None]
    state.release(1)
    assert take(state) == 2
    state.done(2)
    assert not state.is_idle
    assert state.settling_count == 1
    state.done(1)
    assert state.is_idle
    assert state.settling_count == 0
    state.release(7)  # nobody's
    assert state.is_idle


class TestRate:
    def test_no_window_has_more_starts(self) -> None:
        state = state_of(*range(1, 8), rate=Rate(3, per_s=10))
        assert [take(state, at) for at in (0, 4, 4, 5, 9.9)] == [1, 2, 3, None, None]
        assert state.wait_s(5) == 5
        assert take(state, 10) == 4
        assert take(state, 13.9) is None
        assert [take(state, 14) for _ in range(3)] == [5, 6, None]

    def test_nothing_is_awaited_where_something_else_is_in_the_way(self) -> None:
        state = state_of(1, 2, 3, rate=Rate(1, per_s=10), concurrency=2)
        assert state.wait_s(0) is None  # it may start
        take(state, 0)
        assert state.wait_s(4) == 6
        state.pause("lunch")
        assert state.wait_s(4) is None
        state.resume()
        take(state, 10)
        assert state.wait_s(11) is None  # no slot is free
        state.done(1)
        assert state.wait_s(11) == 9
        state.drop(3)
        assert state.wait_s(11) is None  # nothing waits
        assert state_of(1).wait_s(0) is None  # no rate

    def test_a_refused_start_does_not_count(self) -> None:
        state = state_of(1, 2, rate=Rate(2, per_s=10), concurrency=1)
        assert [take(state, at) for at in (0, 1, 2)] == [1, None, None]
        state.done(1)
        assert take(state, 3) == 2
        state.done(2)
        assert [take(state, 4)] == [None]
        state.offer(job(3))
        assert take(state, 9.9) is None
        assert take(state, 10) == 3

    def test_whoever_waits_as_long_as_told_may_start(self) -> None:
        for tenth in range(1, 3_000):
            state = state_of(1, 2, rate=Rate(1, per_s=0.3))
            take(state, tenth / 10)
            now_s = tenth / 10 + 0.1
            wait_s = state.wait_s(now_s)
            assert wait_s is not None
            assert math.isclose(wait_s, 0.2, abs_tol=1e-9)
            assert take(state, now_s + wait_s) == 2

    def test_a_wait_is_never_rounded_to_too_short(self) -> None:
        for now_s in (18.51849027107483, 24.845342565655702, 26.65895103398063):
            state = state_of(1, 2, rate=Rate(1, per_s=60.1))
            take(state, 0.0)
            wait_s = state.wait_s(now_s)
            assert wait_s is not None
            assert take(state, now_s + wait_s) == 2


class TestSequential:
    def test_a_postponed_job_holds_up_the_later_ones(self) -> None:
        state = state_of(2, 1, 3, concurrency=1, sequential=True)
        assert [take(state), take(state)] == [1, None]
        state.postponed(job(1, attempts=1))
        assert take(state) is None
        assert state.waiting_count == 3
        assert state.wait_s(0) is None
        assert state.offer(job(1, attempts=1))
        assert [take(state), take(state)] == [1, None]
        state.done(1)
        assert take(state) == 2

    def test_an_earlier_one_passes_the_one_that_is_awaited(self) -> None:
        state = state_of(5, concurrency=1, sequential=True)
        take(state)
        state.postponed(job(5, attempts=1))
        state.offer(job(4))
        state.offer(job(6))
        assert take(state) == 4
        state.done(4)
        assert take(state) is None

    def test_an_awaited_one_that_ends_otherwise_holds_up_nobody(self) -> None:
        for ends in (lambda state: state.done(1), lambda state: state.drop(1)):
            state = state_of(1, 2, concurrency=1, sequential=True)
            take(state)
            state.postponed(job(1, attempts=1))
            ends(state)
            assert take(state) == 2

    def test_an_awaited_one_is_not_read_from_the_store(self) -> None:
        state = state_of(1, 2, concurrency=1, sequential=True)
        take(state)
        state.postponed(job(1, attempts=1))
        state.begin_refill()
        state.refilled([job(1, attempts=1), job(2)], complete=True)
        assert take(state) is None
        assert state.waiting_count == 2
        state.offer(job(1, attempts=1))
        assert take(state) == 1

    def test_an_awaited_one_finds_room_in_a_full_window(self) -> None:
        state = state_of(1, 2, 3, concurrency=1, sequential=True, window=3)
        take(state)
        state.postponed(job(1, attempts=1))
        assert state.offer(job(4))
        assert not state.offer(job(5))
        assert state.offer(job(1, attempts=1))
        assert take(state) == 1

    def test_a_slot_is_not_free_before_its_row_is_settled(self) -> None:
        state = state_of(1, 2, concurrency=1, sequential=True)
        take(state)
        state.release(1)
        assert take(state) is None
        state.done(1)
        assert take(state) == 2

    def test_new_jobs_do_not_pass_what_was_left_to_the_store(self) -> None:
        state = state_of(1, 2, concurrency=1, sequential=True, window=2)
        assert not state.offer(job(3))
        assert take(state) == 1
        assert not state.offer(job(4, attempts=1))


def test_what_may_have_ended_its_process_is_performed_alone() -> None:
    state = state_of(concurrency=5)
    for row in (job(1), job(2, attempts=1), job(3, attempts=1), job(4)):
        state.offer(row)
    assert take(state) == 1
    assert take(state) is None  # 2 waits until nobody else is at work
    state.done(1)
    assert take(state) == 2
    assert take(state) is None
    state.release(2)
    assert take(state) is None  # nor until it is written that 2 is done
    state.done(2)
    assert take(state) == 3
    state.done(3)
    assert take(state) == 4


class TestPoison:
    def fail(self, state: QueueState, position: int, succeeded: bool | None = False) -> bool:
        state.offer(job(position))
        assert take(state) == position
        state.done(position)
        return succeeded is not None and state.ended(succeeded)

    def test_so_many_failures_in_a_row_pause_the_queue(self) -> None:
        state = state_of(pause_after=2)
        assert not self.fail(state, 1)
        assert not self.fail(state, 2, succeeded=True)
        assert not self.fail(state, 3)
        assert not self.fail(state, 4, succeeded=None)
        assert self.fail(state, 5)
        assert state.is_paused
        assert state.pause_reason == "2 jobs in a row failed for good"
        state.offer(job(6))
        assert take(state) is None
        state.resume()
        assert (state.is_paused, state.pause_reason) == (False, "")
        assert take(state) == 6
        state.done(6)
        assert not state.ended(False)
        assert self.fail(state, 7)

    def test_only_the_failure_that_pauses_says_so(self) -> None:
        state = state_of(1, 2, 3, pause_after=1)
        for _ in range(3):
            take(state)
        state.pause("by hand")
        assert not state.ended(False)
        assert state.pause_reason == "by hand"
        state.resume()
        assert state.ended(False)
        assert not state.ended(False)

    def test_without_a_limit_nothing_pauses(self) -> None:
        state = state_of()
        assert not any(self.fail(state, n) for n in range(1, 100))


def test_what_waits_to_be_performed_alone_does_not_wait_for_the_rate() -> None:
    state = state_of(concurrency=2, rate=Rate(1, 0.5))
    assert state.offer(job(2))
    assert take(state, 0.0) == 2
    assert state.offer(job(1, attempts=1))
    assert state.wait_s(0.1) is None, "the rate is not all that holds it up"
    state.done(2)
    assert state.wait_s(0.1) == 0.4
    assert take(state, 0.5) == 1


def test_a_dropped_row_does_not_start_and_frees_its_place() -> None:
    state = state_of(1, 2, 3, window=3)
    dropped = state.drop(1)
    assert dropped is not None
    assert dropped.position == 1
    assert state.drop(99) is None
    assert state.offer(job(4))
    assert take(state) == 2
    assert state.drop(2) is None
    assert 2 in state.running
    state.offer(job(1))  # still being deleted
    assert [take(state), take(state), take(state)] == [3, 4, None]


def test_a_job_that_is_left_to_another_owner_is_not_taken_in_again_and_holds_up_nobody() -> None:
    state = state_of(1, 2, 3, concurrency=1, window=4)
    assert take(state) == 1
    state.leave(job(1))
    assert take(state) == 2
    state.done(2)
    state.more_in_store()
    assert state.begin_refill() == 5  # so that a full page of what is left holds something new
    state.refilled([job(1), job(3), job(4)], complete=True)
    state.done(3)
    assert [take(state), take(state)] == [4, None]
    assert not state.is_under_way(1)
    assert state.offer(job(1))  # somebody has repaired it
    state.done(4)
    assert take(state) == 1


def test_a_job_that_is_left_does_not_count_for_the_rate() -> None:
    state = state_of(1, 2, 3, rate=Rate(1, per_s=10))
    assert take(state, 0) == 1
    state.leave(job(1))
    assert take(state, 0) == 2
    assert take(state, 9) is None
    assert take(state, 10) == 3


def test_a_job_that_is_left_holds_up_those_behind_it_in_a_sequential_queue() -> None:
    state = state_of(1, 2, sequential=True, concurrency=1)
    assert take(state) == 1
    state.leave(job(1))
    assert take(state) is None
    state.done(1)
    assert take(state) == 2


def test_dropping_over_and_over_does_not_grow_the_heap() -> None:
    state = state_of()
    for position in range(10_000):
        state.offer(job(position + 1))
        state.drop(position + 1)
        state.done(position + 1)
    assert len(state._heap) < 200
    assert state.is_idle


class TestWindow:
    def test_what_finds_no_room_is_left_to_the_store(self) -> None:
        state = state_of(1, 2, window=2)
        assert not state.is_partial
        assert not state.offer(job(3))
        assert state.is_partial
        assert not state.needs_more
        take(state)
        assert not state.needs_more
        take(state)
        assert state.needs_more
        assert not state.offer(job(4)), "it would pass 3"
        assert state.offer(job(5, attempts=1))

    def test_a_refill_brings_what_is_not_known(self) -> None:
        state = state_of(1, 2, 3, 4, window=4, concurrency=3)
        assert not state.offer(job(5))
        for _ in range(3):
            take(state)
        state.release(2)
        assert state.needs_more
        assert state.begin_refill() >= 4 + 3
        assert not state.needs_more, "it is being read"
        state.refilled([job(n) for n in range(1, 7)], complete=True)
        assert not state.is_partial
        assert [take(state), take(state)] == [4, None]
        state.done(1)
        state.done(3)
        assert [take(state), take(state)] == [5, 6]

    def test_a_refill_that_does_not_fit_leaves_the_rest(self) -> None:
        state = state_of(window=2)
        state.more_in_store()
        assert state.needs_more
        state.begin_refill()
        state.refilled([job(1), job(2), job(3)], complete=True)
        assert state.is_partial
        assert state.waiting_count == 2

    def test_a_row_left_to_the_store_while_it_is_read_is_not_forgotten(self) -> None:
        for lose in (lambda s: s.offer(job(3)), lambda s: s.more_in_store()):
            state = state_of(1, 2, window=2)
            state.offer(job(9))
            state.drop(1), state.drop(2)
            state.begin_refill()
            lose(state)
            state.refilled([], complete=True)
            assert state.is_partial
            assert state.needs_more
            state.begin_refill()
            state.refilled([job(3)], complete=True)
            assert not state.is_partial

    @pytest.mark.parametrize(
        "change",
        [
            lambda state: state.done(1),
            lambda state: state.postponed(job(1, attempts=1)),
            lambda state: (state.release(1), state.done(1)),
            lambda state: (state.release(1), state.postponed(job(1, attempts=1))),
        ],
    )
    def test_a_row_that_changed_while_it_was_read_is_not_started_as_it_was(
        self, change: Any
    ) -> None:
        state = state_of(1)
        take(state)
        state.begin_refill()
        change(state)
        state.refilled([job(1)], complete=True)
        assert take(state) is None
        state.begin_refill()
        state.refilled([job(1, attempts=1)], complete=True)
        assert take(state) == 1

    def test_a_row_cancelled_in_the_store_is_not_read_back(self) -> None:
        state = state_of()
        state.begin_refill()
        assert state.drop(1) is None
        state.done(1)
        state.refilled([job(1)], complete=True)
        assert take(state) is None

    def test_a_failed_refill_is_due_again(self) -> None:
        state = QueueState(QueuePolicy(name="q"), is_partial=True)
        state.begin_refill()
        assert not state.needs_more
        state.refill_failed()
        assert state.needs_more
        state.pause("")
        assert not state.needs_more
        assert not state.is_idle


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"concurrency": 0}, "concurrency is 0"),
        ({"concurrency": True}, "concurrency is True"),
        ({"concurrency": 2.0}, "concurrency is 2.0"),
        ({"lease_s": 0}, "lease_s is 0"),
        ({"lease_s": math.nan}, "lease_s is nan"),
        ({"lease_s": math.inf}, "lease_s is inf"),
        ({"pause_after": 0}, "pause_after is 0"),
        ({"pause_after": True}, "pause_after is True"),
        ({"retry": 3}, "retry is 3"),
        ({"rate": 100}, "rate is 100"),
        ({"sequential": 1}, "sequential is 1"),
        ({"sequential": True, "concurrency": 2}, "concurrency is 2 in a sequential queue"),
    ],
)
def test_a_policy_of_nonsense_is_refused(given: Any, said: str) -> None:
    with pytest.raises(DefinitionError, match=f"^{said}") as raised:
        QueuePolicy(name="q", **given)
    assert raised.value.remedy is not None


@pytest.mark.parametrize(
    "given",
    [(0, 1), (1.5, 1), (True, 1), (1, 0), (1, -1), (1, math.nan), (1, math.inf), (10**9, 1)],
)
def test_a_rate_of_nonsense_is_refused(given: Any) -> None:
    with pytest.raises(DefinitionError, match=r"^Rate\.(count|per_s) is"):
        Rate(*given)


class WorkedQueue(RuleBasedStateMachine):
    """The queue against a store in a dict; a refill's answer may be old when it arrives."""

    @initialize(
        sequential=st.booleans(),
        concurrency=st.integers(1, 3),
        rate=st.none() | st.builds(Rate, st.integers(1, 3), st.sampled_from([0.5, 1, 3])),
        window=st.integers(2, 5),
    )
    def begin(self, sequential: bool, concurrency: int, rate: Rate | None, window: int) -> None:
        concurrency = 1 if sequential else concurrency
        self.policy = QueuePolicy(
            name="q", concurrency=concurrency, rate=rate, sequential=sequential
        )
        self.state = QueueState(self.policy, window)
        self.now_s = 0.0
        self.stored: dict[int, OutboxRow] = {}  # the outbox
        self.waiting: set[int] = set()  # positions that await their retry
        self.running: set[int] = set()
        self.released: set[int] = set()
        self.starts: list[float] = []
        self.last = 0
        self.read: list[OutboxRow] | None = None
        self.asked = 0

    def ready(self) -> list[OutboxRow]:
        """As the store answers: never tried ones first, then by position."""
        rows = [row for at, row in self.stored.items() if at not in self.waiting]
        return sorted(rows, key=lambda row: (row.due_at_ms, row.position))

    @rule(count=st.integers(1, 4))
    def commit(self, count: int) -> None:
        for _ in range(count):
            self.last += 1
            self.stored[self.last] = job(self.last)
            self.state.offer(self.stored[self.last])

    @rule()
    def start(self) -> None:
        row = self.state.take(self.now_s)
        if row is None:
            return
        assert row is self.stored[row.position], "as the store has it now"
        assert row.position not in self.running | self.released | self.waiting
        if self.policy.sequential:
            assert row.position == min(self.stored)
        self.running.add(row.position)
        self.starts.append(self.now_s)

    @rule(seconds=st.sampled_from([0.1, 0.25, 1, 2]))
    def wait(self, seconds: float) -> None:
        self.now_s += seconds

    @rule()
    def wait_for_the_rate(self) -> None:
        wait_s = self.state.wait_s(self.now_s)
        if wait_s is not None:
            assert self.state.take(self.now_s) is None
            self.now_s += wait_s
            before = len(self.running)
            self.start()
            assert len(self.running) == before + 1

    @precondition(lambda self: self.running)
    @rule(data=st.data(), early=st.booleans())
    def end(self, data: st.DataObject, early: bool) -> None:
        position = data.draw(st.sampled_from(sorted(self.running)))
        if early:
            self.state.release(position)
            self.released.add(position)
        else:
            del self.stored[position]
            self.state.done(position)
        self.running.discard(position)

    @precondition(lambda self: self.released)
    @rule(data=st.data(), fails=st.booleans())
    def settle(self, data: st.DataObject, fails: bool) -> None:
        position = data.draw(st.sampled_from(sorted(self.released)))
        self.released.discard(position)
        if fails:
            self.postpone(position)
        else:
            del self.stored[position]
            self.state.done(position)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        position = data.draw(st.sampled_from(sorted(self.running)))
        self.running.discard(position)
        self.postpone(position)

    def postpone(self, position: int) -> None:
        row = self.stored[position] = job(position, attempts=1)
        row.due_at_ms = int(self.now_s * 1000) + 1
        self.waiting.add(position)
        self.state.postponed(row)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def come_due(self, data: st.DataObject) -> None:
        position = data.draw(st.sampled_from(sorted(self.waiting)))
        self.waiting.discard(position)
        self.state.offer(self.stored[position])

    @precondition(lambda self: self.stored)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        position = data.draw(st.sampled_from(sorted(self.stored)))
        if position in self.running | self.released:
            return
        self.state.drop(position)
        self.waiting.discard(position)
        del self.stored[position]
        self.state.done(position)

    @precondition(lambda self: self.read is None and self.state.needs_more)
    @rule()
    def read_store(self) -> None:
        self.asked = self.state.begin_refill()
        self.read = self.ready()

    @precondition(lambda self: self.read is not None)
    @rule(fails=st.booleans())
    def answer(self, fails: bool) -> None:
        assert self.read is not None
        if fails:
            self.state.refill_failed()
        else:
            self.state.refilled(self.read[: self.asked], complete=len(self.read) <= self.asked)
        self.read = None

    @rule(pauses=st.booleans())
    def press_the_button(self, pauses: bool) -> None:
        if pauses:
            self.state.pause("by hand")
        else:
            self.state.resume()

    @invariant()
    def limits_hold(self) -> None:
        if not hasattr(self, "state"):
            return
        in_slots = self.running | self.released if self.policy.sequential else self.running
        assert set(self.state.running) == in_slots
        assert len(self.state.running) <= self.policy.concurrency
        rate = self.policy.rate
        for first in self.starts if rate else ():
            assert rate is not None
            within = [at for at in self.starts if first <= at < first + rate.per_s]
            assert len(within) <= rate.count

    def teardown(self) -> None:
        """Nothing was lost: whatever is in the store is taken in the end."""
        if not hasattr(self, "state"):
            return
        self.state.resume()
        for position in sorted(self.waiting):
            self.waiting.discard(position)
            self.state.offer(self.stored[position])
        for position in sorted(self.running | self.released):
            del self.stored[position]
            self.state.done(position)
        self.running, self.released = set(), set()
        while self.stored:
            if self.read is not None:
                self.answer(fails=False)
            if self.state.needs_more:
                self.read_store()
                self.answer(fails=False)
            self.now_s += 3
            row = self.state.take(self.now_s)
            assert row is not None, "a job in the store is never started"
            if self.policy.sequential:
                assert row.position == min(self.stored)
            del self.stored[row.position]
            self.state.done(row.position)
        if self.read is not None:
            self.answer(fails=False)
        if self.state.needs_more:
            self.read_store()
            self.answer(fails=False)
        assert self.state.take(self.now_s + 3) is None
        assert self.state.is_idle


TestWorkedQueue = WorkedQueue.TestCase
TestWorkedQueue.settings = settings(max_examples=times(150), stateful_step_count=40, deadline=None)
