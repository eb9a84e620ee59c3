"""Whether tallies and lookups say what the heads say.

Knows rows, no database. Next to read: ``invariants.py``, which asks; ``journal_facts.py``, by which
the heads themselves are judged.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from perdure.core.commit import HeadRow, LookupRow
from perdure.core.tally import TallyRow, count_head
from perdure.testing.journal_facts import Rule

__all__ = ["lookups_agree", "tallies_agree"]

_NOW = ("running", "stuck", "kept_completed", "kept_failed")
_EVER = ("started", "completed", "failed", "duration_ms")


def tallies_agree(
    tallies: Iterable[TallyRow], heads: Iterable[HeadRow]
) -> Iterator[tuple[Rule, str, str]]:
    """The counts of now are those of the heads; those of ever are not less."""
    stored = {tally.saga: tally for tally in tallies}
    counted: dict[str, TallyRow] = {}
    by_saga: defaultdict[str, list[HeadRow]] = defaultdict(list)
    for head in heads:
        count_head(counted.setdefault(head.saga, TallyRow(head.saga)), None, head)
        by_saga[head.saga].append(head)
    for saga in sorted(stored.keys() | counted.keys()):
        found, expected = stored.get(saga, TallyRow(saga)), counted.get(saga, TallyRow(saga))
        for name in (*_NOW, *_EVER):
            one, other = getattr(found, name), getattr(expected, name)
            if one < other or (one > other and name in _NOW):
                yield Rule.TALLY, "", f"{saga}: {name} is {one}, there are {other}"
        for head in by_saga[saga]:
            missing = set(found.indexed) - {name for name, _ in head.fields}
            if missing:
                what = ", ".join(sorted(missing))
                yield Rule.TALLY, head.instance, f"{what} counts as indexed, and is not"


def lookups_agree(
    lookups: Iterable[LookupRow], heads: Iterable[HeadRow]
) -> Iterator[tuple[Rule, str, str]]:
    """There is one lookup for each field of each head, and no other."""
    expected = {
        (head.instance, name, value, head.saga) for head in heads for name, value in head.fields
    }
    found = {(row.instance, row.field, row.value, row.saga) for row in lookups}
    for instance, name, value, _ in sorted(expected - found):
        yield Rule.LOOKUP, instance, f"{name} is {value!r}, and it is not found by it"
    for instance, name, value, _ in sorted(found - expected):
        yield Rule.LOOKUP, instance, f"it is found by {name} {value!r}, which its head has not"
