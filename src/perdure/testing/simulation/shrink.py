"""From the faults of a failing run to the few that it needs.

``ddmin`` (Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", 2002).
Knows no run. Next to read: ``simulate.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

__all__ = ["ddmin", "earlier"]

LOWERED_BY_MAX = 3

T = TypeVar("T")


def earlier(names: Sequence[str], fails: Callable[[Sequence[str]], bool]) -> list[str]:
    """As few faults still, where the others come earlier once one is gone.

    Without the first crash, what was the fifth commit may be the fourth: "crash K7#5" then is
    "crash K7#4".
    """
    left = list(names)
    for gone in names:
        if len(left) < 2 or gone not in left:
            continue
        rest = [name for name in left if name != gone]
        for lowered_by in range(1, LOWERED_BY_MAX + 1):
            lowered = [_lowered(name, lowered_by) for name in rest]
            if fails(lowered):
                left = lowered
                break
    return left


def _lowered(name: str, by: int) -> str:
    kind, _, number = name.rpartition("#")
    return f"{kind}#{max(1, int(number) - by)}"


def ddmin(items: Sequence[T], fails: Callable[[Sequence[T]], bool], tries_max: int) -> list[T]:
    """A part of ``items`` with which it still fails, and no single one of which can go.

        ddmin(faults, lambda some: run_with(some).error is not None, tries_max=200)

    After ``tries_max`` calls of ``fails``, the smallest part found so far. It must fail with all.
    """
    tries = 0

    def still(some: Sequence[T]) -> bool:
        nonlocal tries
        tries += 1
        return fails(some)

    left = list(items)
    if still([]):
        return []
    parts = 2
    while len(left) >= 2 and tries < tries_max:
        size = -(-len(left) // parts)
        chunks = [left[at : at + size] for at in range(0, len(left), size)]
        for index, chunk in enumerate(chunks):
            rest = [item for other in chunks[:index] + chunks[index + 1 :] for item in other]
            if len(chunks) > 2 and tries < tries_max and still(chunk):
                left, parts = chunk, 2
                break
            if tries < tries_max and still(rest):
                left, parts = rest, max(parts - 1, 2)
                break
        else:
            if parts >= len(left):
                break
            parts = min(parts * 2, len(left))
    return left
