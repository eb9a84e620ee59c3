"""What is logged while the store is away: a line when it begins, a few meanwhile, one at its end.

    log_failure(self, "reading mail", error, pause_s=0.2, now_s=clock.monotonic_s())
    log_end(self, "reading mail")          # it works again
    forget(self, "reading mail")           # nobody wants it any more

A process has many that do the same, a runtime for each shard. While one of them has said that the
store cannot be reached, the others need not, nor each at every retry: at most once a minute. Any
other error is a mistake, and told each time with its traceback. For one event loop, thus for one
process, whatever runtimes are in it. Next to read: ``supervised.py``, whose retries these are.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary, WeakSet

from perdure.errors import StoreUnavailable

__all__ = ["forget", "log_end", "log_failure"]

logger = logging.getLogger("perdure.supervised")

AGAIN_S = 60.0
"""An outage that lasts is told again after so long."""


@dataclass(slots=True)
class _Outage:
    """One kind of work that cannot reach the store: who does it, and when it was said."""

    said_s: float
    sources: WeakSet[object] = field(default_factory=WeakSet)


_outages: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, _Outage]] = WeakKeyDictionary()


def log_failure(
    source: object, what: str, error: BaseException, *, pause_s: float, now_s: float
) -> None:
    """``source`` has failed at it, and tries again after a pause. ``now_s`` is monotonic."""
    if not isinstance(error, StoreUnavailable):
        logger.error("%s failed, and is tried again in %g s", what, pause_s, exc_info=error)
        return
    present = _outages.setdefault(asyncio.get_running_loop(), {})
    outage = present.get(what)
    if outage is None or not outage.sources or now_s - outage.said_s >= AGAIN_S:
        logger.warning("%s fails, and is tried again until it works: %s", what, error)
        sources = WeakSet[object]() if outage is None else outage.sources
        outage = present[what] = _Outage(now_s, sources)
    outage.sources.add(source)


def log_end(source: object, what: str) -> None:
    """It works again; said when all do that had failed at it."""
    if forget(source, what):
        logger.warning("%s works again", what)


def forget(source: object, what: str) -> bool:
    """It is not tried any more; whether it was the last one that had failed."""
    present = _outages.get(asyncio.get_running_loop(), {})
    outage = present.get(what)
    if outage is None or source not in outage.sources:
        return False
    outage.sources.discard(source)
    if outage.sources:
        return False
    del present[what]
    return True
