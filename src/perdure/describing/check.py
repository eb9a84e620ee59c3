"""A few rules on what is declared: each finds what is almost always a mistake, or says nothing.

    for warning in check(describe([OrderFulfilment, payments])):
        print(warning)

What cannot be known from declarations is not warned of: which commands a saga sends, which
deadlines it sets, what a coroutine waits for. A rule is switched off by its name, for all sagas or
for one: ``check(found, ignore=["no-timeout:OrderFulfilment"])``. Literature: the practices of
"Durable Execution Patterns" (design for failure, use timeouts). Next to read: ``rules.py``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from perdure.describing.description import Description
from perdure.describing.rules import RULES, Found
from perdure.errors import DefinitionError

__all__ = ["RULES", "Ignored", "Warned", "check"]


@dataclass(frozen=True, slots=True)
class Warned:
    """A rule that something breaks: which one, whose, where in it ("" all of it), what to do."""

    rule: str
    name: str
    place: str
    problem: str
    remedy: str

    def __str__(self) -> str:
        where = f"{self.name}, {self.place}" if self.place else self.name
        return f"{where}: {self.rule}: {self.problem}; {self.remedy}"


@dataclass(frozen=True, slots=True)
class Ignored:
    """A rule that is switched off: for one saga or queue, or, without a name, for all."""

    rule: str
    name: str = ""

    @classmethod
    def of(cls, text: str) -> Ignored:
        """From "no-timeout" or "no-timeout:OrderFulfilment". Raises ``DefinitionError``."""
        rule, _, name = text.partition(":")
        if rule not in RULES:
            raise DefinitionError(
                f"there is no rule {rule!r}", remedy=f"the rules are {', '.join(RULES)}"
            )
        return cls(rule, name)


def check(description: Description, ignore: Iterable[str] = ()) -> list[Warned]:
    """What breaks a rule, sagas first, in the order of the rules.

    Raises ``DefinitionError`` for a rule to ignore that does not exist.
    """
    ignored = {Ignored.of(one) for one in ignore}
    warned = [_warned(rule, found) for rule, finds in RULES.items() for found in finds(description)]
    return [
        one
        for one in warned
        if ignored.isdisjoint({Ignored(one.rule), Ignored(one.rule, one.name)})
    ]


def _warned(rule: str, found: Found) -> Warned:
    return Warned(rule, found.name, found.place, found.problem, found.remedy)
