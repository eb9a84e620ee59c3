"""Which turns before this incarnation the next spans must know: read back from the journal.

These are the instance's last turn that had a span, and those that armed the deadlines it has. Their
spans' contexts are in the headers of their messages. What a rehydration folds anyway is noted on
the way. What a snapshot covers is read by itself, if the instance is to be traced: its very last
turn, and those that armed its deadlines; a last span further back is not looked for.
Part of ``instances/rehydration.py``, apart for its length. Next to read: ``tracing.py``.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping

from perdure.core.instance import Instance
from perdure.core.replay import JournalEntry
from perdure.core.traced import TURN
from perdure.errors import PerdureError
from perdure.runtime.services import Services
from perdure.runtime.watching.tracing import Trail

__all__ = ["keep_wanted", "noted", "trail_of"]

logger = logging.getLogger("perdure.tracing")

READS_MAX = 8
"""So many turns are read by themselves at most: an instance may have thousands of deadlines."""


def noted(
    entries: Iterable[JournalEntry], traced: dict[int, Mapping[str, str]]
) -> Iterator[JournalEntry]:
    """The same entries; ``traced`` gets the headers of those whose turns had a span."""
    for entry in entries:
        headers = entry.metadata.headers
        if headers is not None and TURN in headers:
            traced[entry.sequence_nr] = headers
        yield entry


def keep_wanted(traced: dict[int, Mapping[str, str]], instance: Instance) -> None:
    """Forget the turns that no later span is about."""
    if traced:
        wanted = {max(traced), *_wanted(instance)}
        for number in [number for number in traced if number not in wanted]:
            del traced[number]


def _wanted(instance: Instance) -> set[int]:
    armed_by = {armed.sequence_nr for armed in instance.deadlines.values()}
    return {instance.sequence_nr, *armed_by}


async def trail_of(
    services: Services,
    instance: Instance,
    traced: dict[int, Mapping[str, str]],
    snapshot_nr: int,
) -> Trail | None:
    """What the instance remembers of its turns; those up to ``snapshot_nr`` were not folded."""
    spans = services.spans
    if spans is None:
        return None
    last_nr = max(traced, default=instance.sequence_nr)
    if snapshot_nr and spans.looks_back(instance.key):
        covered = {number for number in _wanted(instance) if number <= snapshot_nr}
        for number in sorted(covered, reverse=True)[:READS_MAX]:
            await _read(services, instance.key, number, traced)
    return spans.trail(instance, traced, last_nr)


async def _read(
    services: Services, key: str, number: int, traced: dict[int, Mapping[str, str]]
) -> None:
    try:
        for row in await services.store.journal(key, number - 1, 1):
            headers = services.journal.read_turn(row.body).headers
            if row.sequence_nr == number and isinstance(headers, dict) and TURN in headers:
                traced[number] = headers
    except PerdureError as error:  # a link is missing, and that is all
        logger.warning("the trace of turn %d of %s cannot be read: %s", number, key, error)
