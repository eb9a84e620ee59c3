"""What comes and goes with every runtime in real time, of which the runtime itself knows nothing.

    COMPANIONS.append(attend)      # the front door registers the control socket of ``ops/control``

Not in simulations, nor over a simulated clock. One that cannot be there is not there; the runtime
goes on. Next to read: ``lifecycle.py``.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from perdure.runtime.lifecycle import Lifecycle

__all__ = ["COMPANIONS", "Companion", "accompany", "leave", "part"]

logger = logging.getLogger("perdure")


class Companion(Protocol):
    """Something beside a runtime."""

    def leave(self) -> None:
        """The runtime begins to stop: take nothing more."""
        ...

    async def ended(self) -> None:
        """It has stopped: be gone when this returns."""
        ...


COMPANIONS: list[Callable[[Lifecycle], Awaitable[Companion | None]]] = []
"""Called with each runtime that has started."""


async def accompany(runtime: Lifecycle) -> Sequence[Companion]:
    """All companions of a runtime that has started."""
    found = []
    for attend in COMPANIONS:
        try:
            companion = await attend(runtime)
        except Exception:
            logger.exception("the runtime goes on without one of its companions")
        else:
            if companion is not None:
                found.append(companion)
    return found


def leave(companions: Sequence[Companion]) -> None:
    """Tell all of them that the runtime begins to stop."""
    for companion in companions:
        try:
            companion.leave()
        except Exception:
            logger.exception("a companion of the runtime could not leave")


async def part(companions: Sequence[Companion]) -> None:
    """Wait until all of them are gone."""
    for companion in companions:
        try:
            await companion.ended()
        except Exception:
            logger.exception("a companion of the runtime did not end well")
