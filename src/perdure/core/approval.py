"""Who may approve, how many are needed, and until when: the rules of an approval, as values. Pure.

    Approval(
        Who(groups=("finance",)),
        quorum=2,                                                   # two different people
        not_requester=True,
        ladder=(
            Rung(timedelta(days=2)),                                # a reminder
            Rung(timedelta(days=5), Who(people=("cfo",))),          # and the CFO may decide, too
        ),
        expires=timedelta(days=10),
    )

All durations count from the moment of the asking. Everything is checked when it is made, and made
again when it is read from the store: a check that grows stricter would make stored rows unreadable.
Literature: PURISTA (human review gates). Next to read: ``decision.py``, which goes by these rules.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import KW_ONLY, dataclass
from datetime import timedelta

from perdure.core.retry import DELAY_MAX_S, check_number
from perdure.errors import DefinitionError

__all__ = ["Approval", "Rung", "Who"]

VOTES_MAX = 100
"""So many approvals or rejections at most: all votes are part of the state."""

_LONGEST = timedelta(seconds=DELAY_MAX_S)


@dataclass(frozen=True, slots=True)
class Who:
    """Those who may decide: people by name, and whoever is in one of the groups.

    >>> Who(people=("ann",), groups=("finance",)).includes("bob", ("finance", "staff"))
    True

    Names are compared exactly, character by character.
    Raises ``DefinitionError`` if nobody is among them.
    """

    people: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_names("Who.people", self.people)
        _check_names("Who.groups", self.groups)
        if not self.people and not self.groups:
            raise DefinitionError(
                "Who() names nobody: no one could decide", remedy="name people or groups"
            )

    def includes(self, person: str, groups: Collection[str] = ()) -> bool:
        """Whether a person who is in these groups is among them."""
        return person in self.people or any(group in self.groups for group in groups)

    def __or__(self, other: Who) -> Who:
        """Those of both, each once, in order."""
        return Who(
            tuple(dict.fromkeys(self.people + other.people)),
            tuple(dict.fromkeys(self.groups + other.groups)),
        )


@dataclass(frozen=True, slots=True)
class Rung:
    """A step of the ladder: so long after the asking a reminder goes out.

        Rung(timedelta(days=5), Who(groups=("directors",)))

    With ``who``, these may decide from then on as well, beside those who could before.
    """

    after: timedelta
    who: Who | None = None

    def __post_init__(self) -> None:
        _check_span("Rung.after", self.after)
        if self.who is not None:
            _check_who("Rung.who", self.who)


@dataclass(frozen=True, slots=True)
class Approval:
    """The rules of one approval.

        Approval(Who(people=("ann", "bob", "eve")), quorum=2, rejections=2)     # the majority wins

    ``quorum`` different people must approve, ``rejections`` different people reject to end it: one
    by default. With ``not_requester``, neither who asked nor who made the present subject may
    decide. ``remind_every`` sends reminders at this interval beside those of the ``ladder``. After
    ``expires`` it ends undecided; None: it waits for ever.

    Raises ``DefinitionError`` for rules by which nothing could be approved, or rejected, or by
    which all could have voted and nothing be decided; for a ladder that does not rise or goes on
    after the end; for durations that are none.
    """

    who: Who
    _: KW_ONLY
    quorum: int = 1
    rejections: int = 1
    not_requester: bool = False
    ladder: tuple[Rung, ...] = ()
    remind_every: timedelta | None = None
    expires: timedelta | None = None

    def __post_init__(self) -> None:
        _check_who("Approval.who", self.who)
        check_number("Approval.quorum", self.quorum, 1, VOTES_MAX, is_whole=True)
        check_number("Approval.rejections", self.rejections, 1, VOTES_MAX, is_whole=True)
        if type(self.not_requester) is not bool:
            raise DefinitionError(
                f"Approval.not_requester is {self.not_requester!r}", remedy="give True or False"
            )
        self._check_times()
        problem = self.dead_end()
        if problem:
            raise DefinitionError(
                f"Approval: {problem}", remedy="let more people decide, or ask for fewer votes"
            )

    def allowed(self, elapsed: timedelta) -> Who:
        """Who may decide so long after the asking."""
        who = self.who
        for rung in self.ladder[: self.rungs_reached(elapsed)]:
            if rung.who is not None:
                who = who | rung.who
        return who

    def rungs_reached(self, elapsed: timedelta) -> int:
        """How many rungs of the ladder lie behind, so long after the asking."""
        return sum(rung.after <= elapsed for rung in self.ladder)

    def next_reminder(self, elapsed: timedelta) -> timedelta | None:
        """How long after the asking the next reminder is due; None if there is none any more.

        Reminders that were missed meanwhile are not made up for: the next one is yet to come.
        """
        due = [rung.after for rung in self.ladder if rung.after > elapsed]
        if self.remind_every is not None:
            due.append((max(elapsed // self.remind_every, 0) + 1) * self.remind_every)
        soonest = min(due, default=None)
        if soonest is None or (self.expires is not None and soonest >= self.expires):
            return None
        return soonest

    def is_over(self, elapsed: timedelta) -> bool:
        """Whether it has expired, so long after the asking."""
        return self.expires is not None and elapsed >= self.expires

    def dead_end(self, excluded: Collection[str] = ()) -> str:
        """Why this cannot come to a decision if these people may not decide; "" if it can.

        Of groups nobody knows how many people they have: with one of them it may always.
        """
        listed = [self.who, *(rung.who for rung in self.ladder if rung.who is not None)]
        if any(who.groups for who in listed):
            return ""
        count = len({person for who in listed for person in who.people} - set(excluded))
        if self.quorum > count:
            return f"the quorum is {self.quorum}, and {count} people may decide"
        if self.rejections > count:
            return f"{self.rejections} people must reject, and {count} may decide"
        if self.expires is None and self.quorum + self.rejections > count + 1:
            return f"all {count} may have voted without a decision, and it does not expire"
        return ""

    def _check_times(self) -> None:
        last = timedelta(0)
        for rung in _checked_ladder(self.ladder):
            if rung.after <= last:
                raise DefinitionError(
                    f"Approval.ladder has a rung at {rung.after} after one at {last}",
                    remedy="let each rung come after the one before",
                )
            last = rung.after
        if self.remind_every is not None:
            _check_span("Approval.remind_every", self.remind_every, timedelta(seconds=1))
            last = max(last, self.remind_every)
        if self.expires is not None:
            _check_span("Approval.expires", self.expires)
            if last >= self.expires:
                raise DefinitionError(
                    f"Approval expires at {self.expires}, a reminder is due at {last}",
                    remedy="let it expire after the first reminder and the last rung",
                )


def _checked_ladder(ladder: object) -> tuple[Rung, ...]:
    if type(ladder) is tuple and all(type(rung) is Rung for rung in ladder):
        return ladder
    raise DefinitionError(
        f"Approval.ladder is {ladder!r}", remedy="give a tuple of rungs: (Rung(…), Rung(…))"
    )


def _check_names(what: str, names: object) -> None:
    if type(names) is tuple and all(type(name) is str and name for name in names):
        return
    raise DefinitionError(f"{what} is {names!r}", remedy='give a tuple of names, as ("ann",)')


def _check_who(what: str, who: object) -> None:
    if type(who) is not Who:
        raise DefinitionError(f"{what} is {who!r}", remedy='give a Who, as Who(people=("ann",))')


def _check_span(what: str, span: object, at_least: timedelta = timedelta(milliseconds=1)) -> None:
    if type(span) is not timedelta or not at_least <= span <= _LONGEST:
        raise DefinitionError(
            f"{what} is {span!r}",
            remedy=f"give a timedelta of {at_least.total_seconds():g} s to 100 years",
        )
