"""One timer for the leases of a queue: whoever still holds one is told, and only they."""

from __future__ import annotations

from typing import Any

from perdure.runtime.jobs.leases import Leases


class CountingClock:
    """Counts its wake-ups; time is what the test says."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.wakes: list[Any] = []

    def now_ms(self) -> int:
        return int(self.now_s * 1000)

    def call_at(self, at_ms, wake):
        raise AssertionError("leases know no wall clock")

    def attach(self, settled) -> None: ...

    def detach(self, settled) -> None: ...

    def monotonic_s(self) -> float:
        return self.now_s

    def call_later(self, delay_s, wake):
        entry = [self.now_s + delay_s, wake]
        self.wakes.append(entry)
        return type("Cancelling", (), {"cancel": lambda _: self.wakes.remove(entry)})()

    def advance(self, to_s: float) -> None:
        """At most a hundred wake-ups, of which each may come a rounding error early."""
        for _ in range(100):
            due = [entry for entry in self.wakes if entry[0] <= to_s]
            if not due:
                break
            first = min(due, key=lambda entry: entry[0])
            self.wakes.remove(first)
            self.now_s = first[0] * (1 - 1e-15)
            first[1]()
        else:
            raise AssertionError("it wakes again and again")
        self.now_s = to_s


class Holder:
    def __init__(self, told: list[Any]) -> None:
        self.told = told

    def on_lease(self) -> None:
        self.told.append(self)


def test_those_who_hold_on_are_told_in_order_and_the_others_not():
    clock, told = CountingClock(), list[Any]()
    leases = Leases(clock, 30.1)
    one, two, three = (Holder(told) for _ in range(3))
    for holder, at_s in ((one, 0.0), (two, 0.3), (three, 7.7)):
        clock.advance(at_s)
        leases.hold(holder, clock.now_s)
    leases.release(two)
    assert len(clock.wakes) == 1
    clock.advance(31)
    assert told == [one]
    clock.advance(100)
    assert told == [one, three]
    assert not clock.wakes


def test_a_thousand_short_attempts_cost_one_timer():
    clock, told = CountingClock(), list[Any]()
    leases = Leases(clock, 60)
    for number in range(1_000):
        clock.advance(number * 0.01)
        holder = Holder(told)
        leases.hold(holder, clock.now_s)
        leases.release(holder)
    assert len(clock.wakes) == 1
    clock.advance(200)
    assert (told, clock.wakes) == ([], [])


def test_nobody_is_told_after_the_end():
    clock, told = CountingClock(), list[Any]()
    leases = Leases(clock, 1)
    leases.hold(Holder(told), 0.0)
    leases.close()
    clock.advance(5)
    assert (told, clock.wakes) == ([], [])
