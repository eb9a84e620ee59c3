"""What instances somebody looks for, checked and made comparable with what is stored. Pure.

    Criteria.may_fit(head)     by its head: moments are right to the minute, long values are cut
    Criteria.fits(state, …)    by itself

Next to read: ``routes.py``, along which index they are found; ``runtime/looking/finding.py``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from perdure.core.commit import HeadRow, Status
from perdure.core.index_key import KEY_CHARS_MAX, whole_key
from perdure.core.indexed import IndexedField
from perdure.core.outcome import MINUTE_MS
from perdure.errors import EncodeError, InvalidQuery

__all__ = ["Between", "Criteria", "FieldTest", "Span", "field_tests", "statuses_of"]


@dataclass(frozen=True, slots=True)
class Between:
    """From ``low`` to ``high``, both included: ``where={"amount": Between(100, 200)}``.

    None leaves that end open. What is None itself lies between nothing.
    """

    low: Any = None
    high: Any = None


@dataclass(frozen=True, slots=True)
class Span:
    """Milliseconds from ``low`` on and below ``high``; None leaves that end open."""

    low: int | None = None
    high: int | None = None

    @property
    def is_open(self) -> bool:
        """Every moment is within."""
        return self.low is None and self.high is None

    def has(self, at_ms: int) -> bool:
        """The moment is within."""
        low, high = self.low, self.high
        return (low is None or at_ms >= low) and (high is None or at_ms < high)

    def may_have(self, minute_of_ms: int) -> bool:
        """Some moment from this one to the end of its minute is within."""
        low, high = self.low, self.high
        last_ms = (minute_of_ms // MINUTE_MS + 1) * MINUTE_MS - 1
        return (low is None or last_ms >= low) and (high is None or minute_of_ms < high)


@dataclass(frozen=True, slots=True)
class FieldTest:
    """What an indexed field must be: one of ``values``, or between ``low`` and ``high``.

    As whole index keys; the ends of a range are cut as stored values are, in ``cut``.
    """

    field: IndexedField
    values: frozenset[str] | None
    low: str = ""
    high: str = ""

    @property
    def cut(self) -> list[tuple[str, str]]:
        """The ranges of stored keys that may fit, in their order."""
        if self.values is None:
            return [(_cut(self.low), _cut(self.high))]
        return [(key, key) for key in sorted({_cut(value) for value in self.values})]

    def fits(self, state: Any) -> bool:
        """The field of a state is as it must be."""
        try:
            key = whole_key(self.field.get(state))
        except EncodeError:
            return False
        return key in self.values if self.values is not None else self.low <= key <= self.high

    def may_fit(self, stored: str) -> bool:
        """The field that is stored as this may be."""
        return any(low <= stored <= high for low, high in self.cut)


@dataclass(frozen=True, slots=True)
class Criteria:
    """What is looked for: all of this must hold of an instance. No ``statuses``: any."""

    saga: str
    statuses: tuple[Status, ...] = ()
    tests: tuple[FieldTest, ...] = ()
    started: Span = Span()
    updated: Span = Span()

    def may_fit(self, head: HeadRow) -> bool:
        """By what its head says, the instance may be one of them."""
        if self.statuses and head.status not in self.statuses:
            return False
        if not self.started.has(head.started_at_ms):
            return False
        if not self.updated.may_have(head.updated_at_ms):
            return False
        stored = dict(head.fields)
        return all(
            test.field.name in stored and test.may_fit(stored[test.field.name])
            for test in self.tests
        )

    def fits(self, status: Status, started_at_ms: int, updated_at_ms: int, state: Any) -> bool:
        """The instance is one of them."""
        return (
            (not self.statuses or status in self.statuses)
            and self.started.has(started_at_ms)
            and self.updated.has(updated_at_ms)
            and all(test.fits(state) for test in self.tests)
        )


def statuses_of(wanted: Status | str | Iterable[Status | str] | None) -> tuple[Status, ...]:
    """The statuses of these names. Raises ``InvalidQuery``."""
    if wanted is None:
        return ()
    names = [wanted] if isinstance(wanted, str) else wanted
    if not isinstance(names, Iterable):
        names = [names]
    try:
        found = tuple(dict.fromkeys(Status(name) for name in names))
    except ValueError:
        found = ()
    if not found:
        raise InvalidQuery(
            f"status={wanted!r} is no status",
            remedy=f"give one or several of {', '.join(Status)}, or None for any",
        )
    return found


def field_tests(
    indexed: Collection[IndexedField], where: Mapping[str, Any] | None
) -> tuple[FieldTest, ...]:
    """The tests of ``where``, by field. Raises ``InvalidQuery``."""
    if where is None:
        return ()
    if not isinstance(where, Mapping):
        raise InvalidQuery(
            f"where={where!r} is no mapping", remedy='give {"field": value, …}; see Runtime.find'
        )
    return tuple(_test(named(indexed, name), wanted) for name, wanted in where.items())


def named(indexed: Collection[IndexedField], name: object) -> IndexedField:
    """The indexed field of this name. Raises ``InvalidQuery``."""
    for field in indexed:
        if field.name == name:
            return field
    names = ", ".join(field.name for field in indexed)
    raise InvalidQuery(
        f"there is no indexed field {name!r}",
        remedy=f"the indexed ones are: {names}"
        if names
        else "declare fields of the state as Indexed[…] to find instances by them",
    )


def _test(field: IndexedField, wanted: Any) -> FieldTest:
    if isinstance(wanted, Between):
        letter = _letter(field)
        low = letter if wanted.low is None else _key(field, wanted.low)
        high = chr(ord(letter) + 1) if wanted.high is None else _key(field, wanted.high)
        if low > high:
            raise InvalidQuery(
                f"nothing is from {wanted.low!r} to {wanted.high!r}", remedy="give the lower first"
            )
        return FieldTest(field, None, low, high)
    if isinstance(wanted, (list, tuple, set, frozenset)):
        if not wanted:
            raise InvalidQuery(
                f"{field.name!r} cannot be one of no values", remedy="give some, or leave it out"
            )
        return FieldTest(field, frozenset(_key(field, value) for value in wanted))
    return FieldTest(field, frozenset([_key(field, wanted)]))


_SAMPLES: dict[type, Any] = {
    str: "",
    int: 1,
    bool: True,
    Decimal: Decimal(1),
    date: date(2000, 1, 1),
    UUID: UUID(int=1),
}


def _letter(field: IndexedField) -> str:
    """With what the keys of a field begin."""
    kind = field.kinds[-1]
    return "t" if kind is datetime else whole_key(_SAMPLES[kind])[0]


def _key(field: IndexedField, value: Any) -> str:
    try:
        key = whole_key(value)
    except EncodeError as error:
        raise InvalidQuery(f"{field.name!r}: {error.problem}", remedy=error.remedy) from error
    if value is not None and key[0] != _letter(field):
        kinds = " or ".join(kind.__name__ for kind in field.kinds if not issubclass(kind, Enum))
        raise InvalidQuery(
            f"{field.name!r} holds {kinds}, not {value!r}", remedy="give a value of that type"
        )
    return key


def _cut(key: str) -> str:
    return key[:KEY_CHARS_MAX]
