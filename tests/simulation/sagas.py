"""The saga that most of these stories are about, and the ways in which its handler fails."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from perdure import (
    Effects,
    Indexed,
    NonRetryable,
    ProcessManager,
    applies,
    continues,
    message,
    starts,
)

__all__ = [
    "BROKEN",
    "FAILURES",
    "AskFor",
    "Begin",
    "Count",
    "CountState",
    "Counting",
]


@message(name="sim.begin")
class Begin:
    id: str


@message(name="sim.count")
class Count:
    id: str
    number: int
    fails: int = 0


@dataclass(frozen=True)
class CountState:
    numbers: tuple[int, ...] = ()
    last: Indexed[int | None] = None


class Counting(ProcessManager[CountState]):
    """Notes what it gets; its answer is how much it has."""

    name = "sim.counting"

    @starts(Begin, by="id")
    def begins(self, state: CountState, event: Begin, do: Effects) -> None: ...

    @continues(Count, by="id")
    def counted(self, state: CountState, event: Count, do: Effects) -> None:
        shake(event)
        do.reply(len(state.numbers))

    @applies(Count)
    def fold_counted(self, state: CountState, event: Count) -> CountState:
        return CountState((*state.numbers, event.number), event.number)


FAILURES: Counter[str] = Counter()
"""How often each message has failed so far, whatever process that was in."""

BROKEN = 1_000_000


def shake(event: Count) -> None:
    """Fail as often as the message says; a negative number: for ever."""
    name = f"{event.id}/{event.number}"
    if event.fails < 0:
        raise NonRetryable("poison")
    if FAILURES[name] < event.fails:
        FAILURES[name] += 1
        raise ValueError("not yet")


@message(name="sim.ask-for")
class AskFor:
    id: str
    number: int
