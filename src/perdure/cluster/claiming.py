"""How many shards a host takes or gives up, given how they are spread. Pure.

Next to read: ``host.py``, which asks; ``store/ownership.py``, ``Outlook.share``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from perdure.store.ownership import Outlook

__all__ = ["Step", "in_words", "next_step"]


@dataclass(frozen=True, slots=True)
class Step:
    """``claim`` up to so many free shards, or give up these (``leave``); never both."""

    claim: int = 0
    leave: tuple[int, ...] = ()


def next_step(outlook: Outlook, here: int, residents: Mapping[int, int]) -> Step:
    """What a host does next.

    ``here``: so many shards are in its process, those included that start or leave. ``residents``:
    how many instances are in memory, of each shard that is up: those with the fewest go first,
    since each of them has to be read again elsewhere.

    >>> next_step(Outlook(8, hosts=2, rank=0, owned=8, free=0, alone=None, ghosts=0), 8, {…})
    Step(claim=0, leave=(5, 2, 7, 1))
    """
    if outlook.alone is not None:
        return Step()
    surplus = len(residents) - outlook.share
    if surplus > 0:
        by_weight = sorted(residents, key=lambda shard: (residents[shard], shard))
        return Step(leave=tuple(by_weight[:surplus]))
    return Step(claim=max(0, min(outlook.free, outlook.share - here)))


def in_words(claimed: Iterable[int], outlook: Outlook) -> str:
    """What was claimed, for the log."""
    numbers = ", ".join(str(number) for number in sorted(claimed))
    return f"shards {numbers} of {outlook.shards}, shared by {outlook.hosts} processes"
