"""Deaths that are dealt to the processes of a cluster: each at a point, as often as was said.

    deaths = Deaths(folder)
    deaths.deal(["K6", "K22"], hits=2)         # from now on processes die there, four times in all
    deaths.left                                # those that nobody came to yet

Each is a file that can be removed once. A process that comes by a point counts; at a number that
chance has given it, it takes a death of this point, if there is one left, tells the ledger, and
kills itself. Next to read: ``crowd.py``, who comes by; ``tests/cluster_sweep.py``, who deals.
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Sequence
from pathlib import Path

from perdure.failpoints import Point
from tests.kill_sweep import HITS
from tests.survival.ledger import Shared

OFTEN = 60
"""So often, at most, a process comes by a point before it dies there, where nothing is said."""

SELDOM = {
    **HITS, Point.SNAPSHOT: 4, Point.OWNING: 3, Point.STOPPING: 12, Point.MAIL_PUT: 20,
    Point.MAIL_TAKEN: 25, Point.MAIL_ANSWERED: 25, Point.MAIL_GOES: 10, Point.TAKEN_OVER: 8,
    Point.RELEASING: 4, Point.PERFORMED: 10,
}  # fmt: skip


class Deaths:
    """Those in a folder. ``deal`` is its owner's; the others belong to whoever dies."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def deal(self, points: Sequence[str], hits: int) -> None:
        """So many at each of these points."""
        for name in points:
            for number in range(hits):
                (self._folder / f"{Point(name)}.{number}").touch()

    def withdraw(self) -> None:
        """Nobody dies any more."""
        for path in self._folder.iterdir():
            path.unlink(missing_ok=True)

    @property
    def left(self) -> list[str]:
        """The points at which somebody is to die still, each as often as that."""
        return sorted(path.stem for path in self._folder.iterdir())

    def take(self, point: Point) -> bool:
        """One of this point, if there is any: nobody else has it then."""
        for path in self._folder.glob(f"{point}.*"):
            try:
                path.unlink()
            except FileNotFoundError:
                continue
            return True
        return False


class Mortal:
    """A listener of ``failpoints`` by which this process dies where a death is left."""

    def __init__(self, deaths: Deaths, outside: Shared) -> None:
        self._deaths = deaths
        self._outside = outside
        self._chance = random.SystemRandom()
        self._left = {point: self._drawn(point) for point in Point}

    def __call__(self, point: Point) -> None:
        self._left[point] -= 1
        if self._left[point] <= 0:
            self._left[point] = self._drawn(point)
            if self._deaths.take(point):
                self._outside.say("died", point)
                os.kill(os.getpid(), signal.SIGKILL)

    def _drawn(self, point: Point) -> int:
        return self._chance.randint(1, SELDOM.get(point, OFTEN))
