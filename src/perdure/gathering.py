"""Gathering answers: a value for the state of a saga that waits for several.

    @dataclass(frozen=True)
    class PurchaseState:
        offers: Gathering[Offer] = Gathering()

    @applies(OffersWanted)
    def wanted(self, state, event):
        return replace(state, offers=Gathering(event.suppliers, needed=2))  # two suffice

    @applies(Offer)
    def offered(self, state, event):
        return replace(state, offers=state.offers.received(event.supplier, event))

It counts who has answered, not how many messages came, so it comes to the same in any order. Knows
no saga and no clock: for how long to wait is a deadline of the saga's. Next to read:
``docs/approvals.md``, which has a whole saga.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from perdure.errors import DefinitionError

__all__ = ["Gathering"]

A = TypeVar("A")

NEEDED_MAX = 1_000_000


@dataclass(frozen=True, slots=True)
class Gathering(Generic[A]):
    """Answers from those expected, or from so many, whoever they are. A frozen value.

    >>> offers = Gathering(("acme", "bolt", "core"), needed=2)
    >>> offers = offers.received("bolt", 120).received("bolt", 999).received("acme", 100)
    >>> offers.is_complete, offers.answers, offers.missing
    (True, {'bolt': 120, 'acme': 100}, ('core',))
    >>> Gathering(needed=3).received("acme", 100).lacking
    2

    ``expected`` are the names of those who are asked; ``needed`` is how many of them suffice, all
    if it is not said. With ``needed`` alone everybody may answer. ``Gathering()`` expects nobody
    and is complete: so is what is made of an empty list.

    An answer counts once: of the same one, the first stays. Answers that come when it is complete
    are kept. An answer of one who is not expected is kept apart, in ``unexpected``, and does not
    count: what to make of it is the saga's.

    As a field of a state it is annotated with the type of its answers: ``Gathering[Offer]``;
    ``Gathering[AnyMessage]`` holds any messages, a bare ``Gathering`` plain values.

    Raises ``DefinitionError`` for names that are none, or are there twice, and for a ``needed``
    that is no number from one to the number of those expected.
    """

    expected: tuple[str, ...] = ()
    needed: int | None = None
    answers: dict[str, A] = field(default_factory=dict)
    unexpected: dict[str, A] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = self.expected
        if type(names) is not tuple or not all(type(name) is str and name for name in names):
            raise DefinitionError(
                f"Gathering.expected is {names!r}", remedy='give a tuple of names, as ("acme",)'
            )
        if len(set(names)) < len(names):
            raise DefinitionError(
                f"Gathering.expected has a name twice: {names!r}",
                remedy="name each once: one answer of each is counted",
            )
        most = len(names) or NEEDED_MAX
        if self.needed is not None and not (type(self.needed) is int and 1 <= self.needed <= most):
            raise DefinitionError(
                f"Gathering.needed is {self.needed!r}",
                remedy=f"give a whole number from 1 to {most}, or None: all of them",
            )

    def received(self, who: str, answer: A) -> Gathering[A]:
        """The gathering with this answer; itself, if there is one of the same already.

        Raises ``DefinitionError`` if ``who`` is no name.
        """
        if type(who) is not str or not who:
            raise DefinitionError(
                f"an answer of {who!r}", remedy="say by a text whose answer it is"
            )
        if who in self.answers or who in self.unexpected:
            return self
        by_count = not self.expected and self.needed is not None
        if not by_count and who not in self.expected:
            return replace(self, unexpected={**self.unexpected, who: answer})
        return replace(self, answers={**self.answers, who: answer})

    @property
    def missing(self) -> tuple[str, ...]:
        """Those expected who have not answered, in the order they were named."""
        return tuple(name for name in self.expected if name not in self.answers)

    @property
    def lacking(self) -> int:
        """How many answers are needed yet."""
        needed = len(self.expected) if self.needed is None else self.needed
        return max(0, needed - len(self.answers))

    @property
    def is_complete(self) -> bool:
        """As many have answered as are needed."""
        return not self.lacking
