"""When faults strike in one run: by rate and seed, or exactly those that are named.

    plan = Plan(choices, faults)             # as the seed has it
    plan = Plan.of(choices, ["crash K7#3"])  # at the third commit of the run, nothing else

Every occasion has a name, its kind and its number. A fault's details, such as how long an outage
lasts, depend on seed and name only, so they are the same in a run with fewer faults.
Next to read: ``shrink.py``.
"""

from __future__ import annotations

from collections.abc import Iterable

from perdure.errors import DefinitionError
from perdure.failpoints import Point
from perdure.testing.simulation.choices import Choices
from perdure.testing.simulation.faults import Faults

__all__ = ["Plan"]


class Plan:
    """The faults of one run. ``struck`` are the names of those that did, in order."""

    def __init__(self, choices: Choices, faults: Faults) -> None:
        self.faults = faults.drawn(choices)
        self.struck: list[str] = []
        self.is_calm = False
        self._choices = choices
        self._occasions: dict[str, int] = {}
        self._chances: dict[str, list[int]] = {}
        self._exactly: dict[str, set[int]] | None = None

    @classmethod
    def of(cls, choices: Choices, names: Iterable[str], lengths: Faults | None = None) -> Plan:
        """Exactly these faults, lasting up to ``lengths``. Raises ``DefinitionError``."""
        plan = cls(choices, lengths or Faults())
        plan._exactly = {}
        for name in names:
            kind, _, number = name.rpartition("#")
            point = kind.removeprefix("crash ").removeprefix("pause ")
            is_no_point = point != kind and point not in set(Point)
            if not kind or not number.isdecimal() or is_no_point:
                raise DefinitionError(
                    f"{name!r} names no fault", remedy='write it as printed, such as "crash K7#3"'
                )
            plan._exactly.setdefault(kind, set()).add(int(number))
        return plan

    def may(self, kind: str, rate: float) -> bool:
        """Can it strike in this run at all? Who asks for each callback looks here first."""
        return bool(rate) if self._exactly is None else kind in self._exactly

    def strikes(self, kind: str, rate: float) -> Choices | None:
        """Does it happen on this occasion? If so, the choices for its details."""
        number = self._occasions.get(kind, 0) + 1
        self._occasions[kind] = number
        if not self.is_calm:
            self._chances.setdefault(kind, []).append(number)
        if self._exactly is not None:
            if number not in self._exactly.get(kind, ()):
                return None
        elif not rate or self._choices.number(kind) >= rate:
            return None
        if self.is_calm:
            return None
        name = f"{kind}#{number}"
        self.struck.append(name)
        return self._choices.apart(name)

    def chances(self, prefix: str) -> list[str]:
        """All occasions so far on which a fault of the kinds that begin so could have struck."""
        return [
            f"{kind}#{number}"
            for kind, numbers in self._chances.items()
            if kind.startswith(prefix)
            for number in numbers
        ]
