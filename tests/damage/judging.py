"""Was anything wrong, and did it say so? What a damaged file showed, against the sound one.

    harmless    all is as in the sound file, and nothing was said
    healed      all is as in the sound file, and the damage was named
    detected    what the damage concerned is refused, or left out and named; all else is as it was
    earlier     the whole file is an earlier state of itself, which no checksum tells
    stated      a missing or repeated row that no checksum tells; ``docs/guarantees.md`` says which.
                Rows that are missing since a page of the file does not name them any more: only
                if an inspection of the file (``perdure.testing.invariants``) says so
    SILENT, NEIGHBOUR, DOWN, CRASH: never

Next to read: ``corruption_sweep.py``, which counts them.
"""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from perdure.errors import PerdureError
from perdure.testing.invariants import violations
from tests.damage.damages import Damage
from tests.damage.using import Refused, Seen

__all__ = ["Judgement", "Verdict", "by_inspection", "is_of_bytes", "judge"]


class Verdict(StrEnum):
    HARMLESS = "harmless"
    HEALED = "healed"
    DETECTED = "detected"
    EARLIER = "earlier"
    STATED = "stated"
    SILENT = "SILENT"
    NEIGHBOUR = "NEIGHBOUR"
    DOWN = "DOWN"
    CRASH = "CRASH"

    @property
    def is_bad(self) -> bool:
        return self.isupper()


class Judgement(NamedTuple):
    verdict: Verdict
    why: str = ""


_STATED = {
    ("journal", "delete"): "the last row of a journal",
    ("outbox", "delete"): "a row of the outbox",
    ("inbox", "delete"): "a row of the inbox",
    ("dead_letters", "delete"): "a dead letter",
    ("dead_letters", "duplicate"): "a dead letter twice",
    ("queues", "delete"): "a queue's pause",
    ("instances", "delete"): "a head row",
    ("lookups", "delete"): "a lookup",
    ("inbox", "swap position"): "the order of waiting messages",
    ("dead_letters", "swap position"): "the order of dead letters",
}
"""What nobody can tell from the rows that are there. See ``docs/guarantees.md``."""

_STATED_COLUMNS = {
    "journal.instance": "the last row of a journal",
    "journal.sequence_nr": "the last row of a journal",
    "instances.instance": "a head row",
    "lookups.saga": "a lookup",
    "lookups.field": "a lookup",
    "lookups.value": "a lookup",
    "lookups.instance": "a lookup",
    "dead_letters.position": "the order of dead letters",
    "inbox.position": "the order of waiting messages",
}

_NAMING = re.compile(
    r"checksum|is missing|damaged|malformed|not a database|cannot use|epoch|corrupt|no msgpack"
    r"|disk image|another program|meta has|schema version|went back|fewer|does not have",
    re.IGNORECASE,
)


def judge(damage: Damage, concerned: frozenset[str], truth: Seen, seen: Seen) -> Judgement:
    """The verdict on one use of a damaged file."""
    if seen.crash:
        return Judgement(Verdict.CRASH, seen.crash)
    untyped = [refused for refused in seen.refusals if not refused.typed]
    if untyped:
        return Judgement(Verdict.CRASH, untyped[0].error)
    noticed = _NAMING.search(_new_words(truth, seen)) is not None
    started = ("*", "start") not in seen.found
    whole = "*" in concerned
    if not started and not whole:
        return Judgement(Verdict.DOWN, seen.refusals[0].error)
    wrong = _differences(truth, seen)
    if not wrong:
        return Judgement(Verdict.HEALED if noticed else Verdict.HARMLESS)
    strangers = [key for key in wrong if not whole and key[0] not in concerned]
    if strangers:
        return Judgement(Verdict.NEIGHBOUR, _shown(strangers[0], truth, seen))
    if noticed:
        return Judgement(Verdict.DETECTED)
    return _unnoticed(damage, _shown(wrong[0], truth, seen))


def is_of_bytes(damage: Damage) -> bool:
    """It is done to bytes of the file, below its tables: SQLite itself may not notice."""
    return damage.where.startswith(("file", "header of page"))


def by_inspection(silent: Judgement, path: Path) -> Judgement:
    """What is silent in use must be named by an inspection of the same damaged file."""
    try:
        with closing(sqlite3.connect(path)) as connection:
            found = [str(one) for one in violations(connection)]
    except (PerdureError, sqlite3.Error) as error:
        found = [f"{type(error).__name__}: {error}"]
    return Judgement(Verdict.STATED, f"an inspection names it: {found[0]}") if found else silent


def _unnoticed(damage: Damage, shown: str) -> Judgement:
    if damage.where.startswith("log"):
        return Judgement(Verdict.EARLIER, shown)
    table = damage.where.partition(",")[0]
    column = damage.where.partition(" of ")[0]
    stated = _STATED.get((table, damage.how)) or _STATED_COLUMNS.get(column)
    if stated:
        return Judgement(Verdict.STATED, stated)
    return Judgement(Verdict.SILENT, shown)


def _new_words(truth: Seen, seen: Seen) -> str:
    said = set(truth.noticed.splitlines())
    return "\n".join(line for line in seen.noticed.splitlines() if line not in said)


def _differences(truth: Seen, seen: Seen) -> list[tuple[str, str]]:
    keys = [*truth.found, *(key for key in seen.found if key not in truth.found)]
    return [key for key in keys if truth.found.get(key, _NONE) != seen.found.get(key, _NONE)]


_NONE = object()


def _shown(key: tuple[str, str], truth: Seen, seen: Seen) -> str:
    def short(value: Any) -> str:
        text = "nothing" if value is _NONE else repr(value)
        return text if len(text) < 300 else f"{text[:300]}…"

    right, wrong = truth.found.get(key, _NONE), seen.found.get(key, _NONE)
    if isinstance(wrong, Refused):
        wrong = wrong.error
    return f"{' '.join(key)}: {short(wrong)} in place of {short(right)}"
