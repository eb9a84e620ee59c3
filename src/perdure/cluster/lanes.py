"""The letters for one key, in the order in which they were sent: none takes another way meanwhile.

A shard may come to this process, or leave it, while letters for its instances are on their way. So
a lane changes from mail to hand, or back, only once everything sent before is answered; what comes
back from a runtime that has stopped is sent again, in its order, before what came later.
Knows no instance and no mail. Next to read: ``router.py``, which says which way it is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

from perdure.cluster.letters import Letter

__all__ = ["Lane", "Lanes", "Way"]


class Way(Protocol):
    """By hand to one runtime in this process, or by mail."""

    def take(self, letter: Letter) -> None:
        """Bring the letter. It may be answered, or returned, before this returns."""
        ...

    def returned(self) -> None:
        """A letter has come back: this way leads nowhere any more."""
        ...


class Lane:
    """One key's letters. ``way_to`` says which way they go now."""

    __slots__ = ("_is_going", "_lanes", "_open", "_returned", "_waiting", "_way", "key")

    def __init__(self, lanes: Lanes, key: str) -> None:
        self.key = key
        self._lanes = lanes
        self._open = 0
        self._way: Way | None = None
        self._waiting: deque[Letter] = deque()
        self._returned: list[Letter] = []
        self._is_going = False

    def add(self, letter: Letter) -> None:
        """Send it behind those before."""
        self._waiting.append(letter)
        self._go_on()

    def done(self, letter: Letter) -> None:
        """It is answered, and may be overtaken."""
        if letter.is_sent:
            letter.is_sent = False
            self._open -= 1
        self._go_on()

    def returned(self, letter: Letter) -> None:
        """The runtime to which it was brought is not its owner any more."""
        assert self._way is not None
        letter.is_sent = False
        self._open -= 1
        self._returned.append(letter)
        self._way.returned()
        self._go_on()

    def _go_on(self) -> None:
        if self._is_going:
            return  # whoever is at it sees what has changed
        self._is_going = True
        while self._may_send():
            letter = self._waiting.popleft()
            if not letter.is_over:
                letter.is_sent = True
                self._open += 1
                self._take(letter)
        self._is_going = False
        if not self._open and not self._waiting and not self._returned:
            self._lanes.forget(self)

    def _take(self, letter: Letter) -> None:
        assert self._way is not None
        try:
            self._way.take(letter)
        except Exception as error:  # its sender is told, and those behind it go on
            letter.fail(error)

    def _may_send(self) -> bool:
        if self._returned:
            if self._open:
                return False  # more may come back
            back = sorted(self._returned, key=lambda letter: letter.number)
            self._waiting.extendleft(reversed(back))
            self._returned = []
        if not self._waiting:
            return False
        way = self._lanes.way_to(self.key)
        if self._open and way is not self._way:
            return False
        self._way = way
        return True


class Lanes:
    """The lanes of a process with letters on their way."""

    def __init__(self, way_to: Callable[[str], Way]) -> None:
        self.way_to = way_to
        self._lanes: dict[str, Lane] = {}
        self._last = 0

    def send(self, letter: Letter) -> None:
        """Send a letter behind all that were sent to its key before."""
        self._last += 1
        letter.number = self._last
        lane = self._lanes.get(letter.key)
        if lane is None:
            lane = self._lanes[letter.key] = Lane(self, letter.key)
        letter.lane = lane
        lane.add(letter)

    def forget(self, lane: Lane) -> None:
        """Nothing is on its way in it."""
        if self._lanes.get(lane.key) is lane:
            del self._lanes[lane.key]
