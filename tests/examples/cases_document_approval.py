"""document_approval.py: each way a document can go, who may decide and when, and the workers."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from itertools import product
from pathlib import Path
from random import Random
from typing import Any

import pytest

import document_approval
from document_approval import (
    GROUPS,
    TABLES,
    Dossier,
    HandedIn,
    MovedTo,
    Progress,
    PublishDocument,
    Published,
    notices,
    publish,
    publishing,
    rows_of,
)
from perdure import (
    ApprovalDecided,
    Approvals,
    AskApproval,
    ChildEnded,
    Decide,
    InstanceView,
    Job,
    Metadata,
    Outcome,
    Record,
    Runtime,
    SetDeadline,
    Status,
    digest_of,
)
from perdure.approvals import Answer, Verdict, Vote, WithdrawApproval, Word, submit
from perdure.errors import HandlerFailed
from perdure.testing import SimulatedClock
from tests.runtime.support import in_loop, quickly

DAY = timedelta(days=1)
SMALL = PublishDocument("d", "ada", "small", 40_000)
LARGE = replace(SMALL, text="large", euros=100_001)
TO_THE_END = (("manager", "max"), ("legal", "leo"), ("legal", "liz"))
TO_THE_BOARD = (*TO_THE_END, ("board", "bea"))


@pytest.fixture
def office(tmp_path: Path) -> Path:
    return new_office(tmp_path)


def new_office(directory: Path) -> Path:
    with sqlite3.connect(directory / "office.db") as db:
        db.executescript(TABLES)
    db.close()
    return directory / "office.db"


class Life:
    """A runtime with time that stands still, and one document in it."""

    def __init__(self, runtime: Runtime, clock: SimulatedClock, office: Path) -> None:
        self.runtime = runtime
        self.clock = clock
        self.office = office

    async def hand_in(self, document: PublishDocument = SMALL, manager: str = "max") -> Outcome:
        (receipt,) = await self.runtime.publish(HandedIn(document, manager))
        await self.runtime.settled()
        return receipt.outcome

    async def decide(
        self,
        stage: str,
        by: str,
        document: PublishDocument = SMALL,
        verdict: Verdict = "approve",
        version: int = 1,
        comment: str = "",
    ) -> Answer:
        groups = tuple(group for group, people in GROUPS.items() if by in people)
        decision = Decide(f"d/{stage}-{version}", by, verdict, digest_of(document), groups, comment)
        answer = await submit(self.runtime, decision)
        await self.runtime.settled()
        return answer

    async def word(self, *arguments: Any, **options: Any) -> Word:
        return (await self.decide(*arguments, **options)).word

    async def pass_on(
        self, steps: Any, document: PublishDocument = SMALL, version: int = 1
    ) -> None:
        """These people approve."""
        for stage, by in steps:
            answer = await self.decide(stage, by, document, version=version)
            assert answer.word in (Word.RECORDED, Word.APPROVED), answer

    async def seen(self) -> InstanceView:
        seen = await self.runtime.state(self.runtime.ref(Dossier, "d"))
        assert seen is not None
        return seen

    async def end(self) -> tuple[Status, str, str | None]:
        seen = await self.seen()
        return seen.status, seen.state.status, seen.failure

    async def asked(self) -> list[str]:
        """The ids of all approvals there are or were."""
        return [one.correlation_id async for one in self.runtime.instances(Approvals)]


@asynccontextmanager
async def living(
    office: Path, clock: SimulatedClock | None = None, store: Path | None = None
) -> AsyncIterator[Life]:
    clock = clock or SimulatedClock()
    url = "memory://" if store is None else f"sqlite+aiosqlite:///{store}"
    members = (Dossier, Approvals, publishing, notices)
    async with Runtime(url, members, resources={"office": office}, clock=clock) as runtime:
        yield Life(runtime, clock, office)
        await runtime.settled()


def published(office: Path) -> list[str]:
    return [text for (text,) in rows_of(office, "SELECT text FROM published")]


def letters(office: Path) -> list[tuple[str, ...]]:
    """(day, person, text), each in the order they were written."""
    return rows_of(office, "SELECT day, person, text FROM mailbox ORDER BY rowid")


PUBLISHED = (Status.COMPLETED, "published", None)


# The ways of a document


@quickly
async def test_a_small_document_needs_the_manager_and_two_of_legal(office: Path) -> None:
    async with living(office) as life:
        assert await life.hand_in() is Outcome.APPLIED
        await life.pass_on(TO_THE_END)
        assert await life.end() == PUBLISHED
        assert await life.asked() == ["d/legal-1", "d/manager-1"]
    assert published(office) == ["small"]


@quickly
async def test_a_large_document_needs_two_of_the_board_too(office: Path) -> None:
    async with living(office) as life:
        await life.hand_in(LARGE)
        await life.pass_on(TO_THE_BOARD, LARGE)
        assert await life.end() == (Status.RUNNING, "board", None)
        assert published(office) == []
        await life.pass_on([("board", "ben")], LARGE)
        assert await life.end() == PUBLISHED
    assert published(office) == ["large"]


@quickly
async def test_a_stage_is_asked_only_after_the_one_before(office: Path) -> None:
    async with living(office) as life:
        await life.hand_in(LARGE)
        assert await life.word("legal", "leo", LARGE) is Word.UNKNOWN
        assert await life.asked() == ["d/manager-1"]
        await life.pass_on(TO_THE_BOARD[:2], LARGE)
        assert await life.word("board", "bea", LARGE) is Word.UNKNOWN


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 4])
@quickly
async def test_rejected_at_any_stage_it_passes_the_whole_chain_again(
    office: Path, steps: int
) -> None:
    changed = replace(LARGE, text="changed")
    async with living(office) as life:
        await life.hand_in(LARGE)
        await life.pass_on(TO_THE_BOARD[:steps], LARGE)
        stage, by = (*TO_THE_BOARD, ("board", "ben"))[steps]
        answer = await life.decide(stage, by, LARGE, "reject", comment="too dear")
        assert answer.word is Word.REJECTED
        assert letters(office)[-1][1:] == ("ada", f"d/{stage}-1 is rejected, {by} says: too dear")
        assert await life.end() == (Status.RUNNING, "with the author", None)
        assert await life.hand_in(changed) is Outcome.APPLIED
        await life.pass_on((*TO_THE_BOARD, ("board", "ben")), changed, version=2)
        assert await life.end() == PUBLISHED
    assert published(office) == ["changed"]


@quickly
async def test_a_decision_on_what_it_was_before_does_not_count(office: Path) -> None:
    changed = replace(SMALL, text="changed")
    async with living(office) as life:
        await life.hand_in()
        await life.decide("manager", "max", verdict="reject")
        await life.hand_in(changed)
        answer = await life.decide("manager", "max", SMALL, version=2)
        assert (answer.word, answer.digest) == (Word.CHANGED, digest_of(changed))
        assert await life.word("manager", "max", SMALL) is Word.ALREADY_DECIDED
        assert await life.end() == (Status.RUNNING, "manager", None)


@quickly
async def test_a_changed_amount_changes_the_chain(office: Path) -> None:
    async with living(office) as life:
        await life.hand_in()
        await life.decide("manager", "max", verdict="reject")
        await life.hand_in(LARGE)
        await life.pass_on(TO_THE_END, LARGE, version=2)
        assert await life.end() == (Status.RUNNING, "board", None)


@quickly
async def test_what_people_decide_on_is_not_changed_under_their_hands(office: Path) -> None:
    async with living(office) as life:
        await life.hand_in()
        for _ in range(2):
            assert await life.hand_in(LARGE) is Outcome.UNHANDLED
        await life.pass_on(TO_THE_END)
        assert await life.hand_in(LARGE) is Outcome.FINISHED
    assert published(office) == ["small"]


@quickly
async def test_whoever_hands_it_in_again_the_author_stays_the_author(office: Path) -> None:
    by_leo = replace(SMALL, author="leo")
    async with living(office) as life:
        await life.hand_in(by_leo)
        await life.decide("manager", "max", by_leo, "reject")
        await life.hand_in(SMALL)  # as if ada were the author, so that leo might decide
        await life.pass_on([("manager", "max")], by_leo, version=2)
        assert await life.word("legal", "leo", by_leo, version=2) is Word.NOT_ALLOWED


@quickly
async def test_what_is_not_handed_in_again_is_over_after_a_month(office: Path) -> None:
    async with living(office) as life:
        await life.hand_in()
        await life.decide("manager", "max", verdict="reject")
        await life.clock.advance(30 * DAY - timedelta(milliseconds=1))
        assert (await life.seen()).status is Status.RUNNING
        await life.clock.advance(timedelta(milliseconds=1))
        assert (await life.seen()).failure == "rejected, and not handed in again"
        assert await life.hand_in() is Outcome.FINISHED


@quickly
async def test_handed_in_again_it_has_all_the_time_there_is(office: Path) -> None:
    async with living(office) as life:
        await life.hand_in()
        await life.decide("manager", "max", verdict="reject")
        await life.clock.advance(29 * DAY)
        await life.hand_in()
        await life.clock.advance(6 * DAY)
        await life.pass_on([("manager", "max")], version=2)
        await life.clock.advance(13 * DAY)
        await life.pass_on(TO_THE_END[1:], version=2)
        assert await life.end() == PUBLISHED


# Who may decide, and until when


@quickly
async def test_nobody_is_their_own_manager(office: Path) -> None:
    async with living(office) as life:
        with pytest.raises(HandlerFailed, match="without the requester"):
            await life.hand_in(SMALL, manager="ada")
        assert await life.runtime.state(life.runtime.ref(Dossier, "d")) is None
        assert await life.asked() == []
        assert await life.hand_in(SMALL) is Outcome.APPLIED, "with another manager it may"
    assert [person for _, person, _ in letters(office)] == ["max"]


@quickly
async def test_decisions_that_do_not_count_leave_everything_as_it_is(office: Path) -> None:
    by_lea = replace(SMALL, author="lea")
    async with living(office) as life:
        await life.hand_in(by_lea)
        assert await life.word("manager", "leo", by_lea) is Word.NOT_ALLOWED
        await life.pass_on([("manager", "max"), ("legal", "leo")], by_lea)
        before = letters(office)
        for by, word in (
            ("lea", Word.NOT_ALLOWED),
            ("sam", Word.NOT_ALLOWED),
            ("max", Word.NOT_ALLOWED),
            ("leo", Word.DUPLICATE),
        ):
            assert await life.word("legal", by, by_lea) is word
        assert await life.end() == (Status.RUNNING, "legal", None)
        assert letters(office) == before
        assert {person for _, person, _ in before} == {"max", "lea", "leo", "liz"}
        asked = [person for _, person, text in before if text == "please decide on d/legal-1"]
        assert asked == ["leo", "liz"], "the author is not asked"


@quickly
async def test_many_decisions_at_once_make_one_step(office: Path) -> None:
    async with living(office) as life:
        await life.hand_in()
        await life.pass_on([("manager", "max")])
        people = [person for person in ("leo", "liz", "lea") for _ in range(4)]
        words = await asyncio.gather(*(life.word("legal", person) for person in people))
        assert (words.count(Word.RECORDED), words.count(Word.APPROVED)) == (1, 1)
        assert await life.end() == PUBLISHED
    assert published(office) == ["small"]


@pytest.mark.parametrize(("steps", "stage", "days"), [(0, "manager", 7), (1, "legal", 14),
                                                      (4, "board", 21)])  # fmt: skip
@quickly
async def test_what_nobody_decides_in_time_is_over(
    office: Path, steps: int, stage: str, days: int
) -> None:
    async with living(office) as life:
        await life.hand_in(LARGE)
        await life.pass_on(TO_THE_BOARD[:steps], LARGE)
        await life.clock.advance(days * DAY - timedelta(milliseconds=1))
        assert (await life.seen()).status is Status.RUNNING
        await life.clock.advance(timedelta(milliseconds=1))
        assert await life.end() == (Status.FAILED, stage, f"{stage}-1: expired")
        late = {"manager": "max", "legal": "leo", "board": "ben"}[stage]
        assert await life.word(stage, late, LARGE) is Word.EXPIRED
        assert letters(office)[-1][1:] == ("ada", f"d/{stage}-1 is expired")
    assert published(office) == []


@quickly
async def test_the_chair_may_decide_when_the_board_has_not(office: Path) -> None:
    async with living(office) as life:
        await life.hand_in(LARGE)
        await life.pass_on(TO_THE_BOARD, LARGE)
        await life.clock.advance(10 * DAY - timedelta(milliseconds=1))
        assert await life.word("board", "chair", LARGE) is Word.NOT_ALLOWED
        await life.clock.advance(timedelta(milliseconds=1))
        assert await life.word("board", "chair", LARGE) is Word.APPROVED
        assert await life.end() == PUBLISHED


@quickly
async def test_letters_go_to_those_who_can_still_do_something(office: Path) -> None:
    async with living(office) as life:
        await life.hand_in(replace(LARGE, author="lea"))
        await life.pass_on([("manager", "max")], replace(LARGE, author="lea"))
        await life.clock.advance(4 * DAY)
        await life.pass_on(TO_THE_BOARD[1:], replace(LARGE, author="lea"))
        await life.clock.advance(21 * DAY)
    decide = "please decide on d/{}-1".format
    assert letters(office) == [
        ("01 Jan", "max", decide("manager")),
        ("01 Jan", "lea", "d/manager-1 is approved"),
        ("01 Jan", "leo", decide("legal")),
        ("01 Jan", "liz", decide("legal")),
        ("05 Jan", "leo", f"reminder, {decide('legal')}"),
        ("05 Jan", "liz", f"reminder, {decide('legal')}"),
        ("05 Jan", "lea", "d/legal-1 is approved"),
        ("05 Jan", "bea", decide("board")),
        ("05 Jan", "ben", decide("board")),
        ("10 Jan", "ben", f"reminder, {decide('board')}"),
        ("15 Jan", "chair", f"escalated, {decide('board')}"),
        ("15 Jan", "chair", f"reminder, {decide('board')}"),
        ("15 Jan", "ben", f"reminder, {decide('board')}"),
        ("26 Jan", "lea", "d/board-1 is expired"),
    ]


# Children that end otherwise


@quickly
async def test_a_dossier_that_is_cancelled_withdraws_its_approval(office: Path) -> None:
    async with living(office) as life:
        await life.hand_in()
        await life.runtime.cancel(life.runtime.ref(Dossier, "d"), "no more")
        await life.runtime.settled()
        assert await life.word("manager", "max") is Word.WITHDRAWN
        assert (await life.seen()).failure == "cancelled: no more"
        await life.clock.advance(60 * DAY)
    assert [text for _, _, text in letters(office)][1:] == ["d/manager-1 is withdrawn"]


@quickly
async def test_an_approval_that_is_withdrawn_ends_the_dossier(office: Path) -> None:
    async with living(office) as life:
        await life.hand_in()
        await submit(life.runtime, WithdrawApproval("d/manager-1", "by hand"))
        await life.runtime.settled()
        assert (await life.seen()).failure == "manager-1: withdrawn"


@quickly
async def test_an_approval_that_somebody_else_has_asked_for_is_not_taken_for_ours(
    office: Path,
) -> None:
    async with living(office) as life:
        await submit(
            life.runtime, AskApproval("d/legal-1", SMALL, document_approval.LEGAL, "somebody")
        )
        await life.hand_in()
        await life.pass_on([("manager", "max")])
        seen = await life.seen()
        assert (seen.status, seen.state.status) == (Status.FAILED, "legal")
        assert seen.failure is not None
        assert seen.failure.startswith("legal-1: not started: ")
        await life.pass_on(TO_THE_END[1:])
    assert published(office) == []


def test_the_approval_of_something_else_publishes_nothing() -> None:
    vote = Vote("leo", "approve", SimulatedClock().now)
    decided = ApprovalDecided("d/legal-1", "approved", LARGE, digest_of(LARGE), "ada", (vote,))
    ended = ChildEnded("legal-1", Approvals.name, "d/legal-1", "completed", decided)
    effects = Dossier().handle(Progress(SMALL, 1, "legal"), ended, Metadata("m"))
    assert list(effects or ()) == [
        Record(MovedTo("with the author")),
        SetDeadline("changed", 30 * DAY),
    ]


# Restarts and faults


STEPS: list[Any] = [
    HandedIn(LARGE, "max"),
    ("manager", "max", LARGE),
    5 * DAY,
    ("legal", "lea", LARGE, "reject"),
    6 * DAY,
    HandedIn(replace(LARGE, text="changed"), "max"),
    *((*step, replace(LARGE, text="changed"), "approve", 2) for step in TO_THE_BOARD[:3]),
    6 * DAY,
    ("board", "bea", replace(LARGE, text="changed"), "approve", 2),
    6 * DAY,
    ("board", "chair", replace(LARGE, text="changed"), "approve", 2),
    30 * DAY,
]


async def take(life: Life, step: Any) -> None:
    if isinstance(step, timedelta):
        await life.clock.advance(step)
    elif isinstance(step, HandedIn):
        await life.hand_in(step.document, step.manager)
    else:
        await life.decide(*step)


def directories(tmp_path: Path) -> Iterator[Path]:
    for name in ("through", "stopped"):
        (tmp_path / name).mkdir()
        yield tmp_path / name


@in_loop(60)
async def test_a_restart_between_any_two_steps_changes_nothing(tmp_path: Path) -> None:
    through, stopped = (new_office(directory) for directory in directories(tmp_path))
    async with living(through) as life:
        for step in STEPS:
            await take(life, step)
        assert await life.end() == PUBLISHED
    clock = SimulatedClock()
    for step in STEPS:
        async with living(stopped, clock, tmp_path / "approvals.db") as life:
            await take(life, step)
    async with living(stopped, clock, tmp_path / "approvals.db") as life:
        assert await life.end() == PUBLISHED
    assert published(stopped) == ["changed"]
    assert letters(stopped) == letters(through)
    assert len(letters(through)) == len({*letters(through)}) == 23


@quickly
async def test_what_was_due_during_a_stop_is_done_after_it(office: Path, tmp_path: Path) -> None:
    clock, store = SimulatedClock(), tmp_path / "approvals.db"
    async with living(office, clock, store) as life:
        await life.hand_in(LARGE)
        await life.pass_on(TO_THE_BOARD, LARGE)
    await clock.advance(60 * DAY)
    async with living(office, clock, store) as life:
        await life.runtime.settled()
        assert await life.end() == (Status.FAILED, "board", "board-1: expired")
    assert [text for _, _, text in letters(office)][-1] == "d/board-1 is expired"


@quickly
async def test_other_rules_hold_from_now_on_and_not_for_what_was_decided(
    office: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "approvals.db"
    async with living(office, None, store) as life:
        await life.hand_in()
        await life.pass_on(TO_THE_END[:2])
    monkeypatch.setattr(document_approval, "LARGE", SMALL.euros - 1)
    async with living(office, None, store) as life:
        await life.pass_on(TO_THE_END[2:])
    monkeypatch.setattr(document_approval, "LARGE", SMALL.euros)
    async with living(office, None, store) as life:
        assert await life.end() == (Status.RUNNING, "board", None)
        await life.pass_on([("board", "bea"), ("board", "ben")])
        assert await life.end() == PUBLISHED


@quickly
async def test_an_office_that_is_closed_for_a_while_loses_and_doubles_nothing(
    office: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, failures = document_approval.add, {"published": 21, "mailbox": 21}

    def sometimes(office: Path, table: str, *rows: tuple[str, str, str, str]) -> None:
        """Fails, and half of the time only after it is written."""
        if failures[table] % 2:
            plain(office, table, *rows)
        if failures[table]:
            failures[table] -= 1
            raise sqlite3.OperationalError("disk I/O error")
        plain(office, table, *rows)

    monkeypatch.setattr(document_approval, "add", sometimes)
    async with living(office) as life:
        await life.hand_in()
        await life.pass_on(TO_THE_END)
        assert await life.end() == (Status.RUNNING, "approved", None)
        assert published(office) == ["small"], "and nobody has heard of it yet"
        await life.clock.advance(DAY)
        assert failures == {"published": 0, "mailbox": 0}
        assert await life.end() == PUBLISHED
    assert published(office) == ["small"]
    assert [person for _, person, _ in letters(office)] == [
        "max",
        "ada",
        "lea",
        "leo",
        "liz",
        "ada",
    ]


def test_a_worker_asked_twice_publishes_once(office: Path) -> None:
    for _ in range(2):
        assert publish(SMALL, Job(key="k"), office) == Published("d")
    assert published(office) == ["small"]


def test_a_letter_to_many_is_written_to_all_of_them_or_none(office: Path) -> None:
    good, bad = ("k", "leo", "01 Jan", "text"), ("k", "liz", "01 Jan", object())
    with pytest.raises(sqlite3.Error):
        document_approval.add(office, "mailbox", good, bad)  # type: ignore[arg-type]
    assert letters(office) == []
    for _ in range(2):
        document_approval.add(office, "mailbox", good)
    assert len(letters(office)) == 1


# Any history

AT = {"manager": ("max",), "legal": ("leo", "liz", "lea"), "board": ("bea", "ben", "chair", "sam")}
"""Who comes to decide at which stage; some may not."""


@in_loop(60)
async def test_whatever_happens_only_what_all_of_the_chain_approved_is_published(
    tmp_path: Path,
) -> None:
    kinds = set[tuple[bool, int]]()
    for seed in range(20):
        (tmp_path / f"{seed}").mkdir()
        async with living(new_office(tmp_path / f"{seed}")) as life:
            chance = Random(seed)
            first = PublishDocument("d", "lea", "first", chance.choice([1, 200_000]))
            await life.hand_in(first)
            for _ in range(60):
                await _act(life, chance, first)
            seen = await life.seen()
            if seen.status is Status.COMPLETED:
                kinds.add((seen.state.version > 1, seen.state.document.euros))
            await _check_what_is_published(life)
    assert kinds == set(product((False, True), (1, 200_000))), "the chances are as intended"


async def _act(life: Life, chance: Random, first: PublishDocument) -> None:
    """Somebody decides on what is open, time passes, or somebody hands it in again."""
    seen = await life.seen()
    state: Progress = seen.state
    what = chance.random()
    if seen.status is not Status.RUNNING:
        return
    if what < 0.1:
        await life.clock.advance(chance.randrange(4) * DAY)
    elif what < 0.3:
        author, euros = chance.choice(["lea", "max"]), chance.choice([1, 200_000])
        await life.hand_in(PublishDocument("d", author, "again", euros))
    elif state.status in AT:
        by, read = chance.choice(AT[state.status]), chance.choice([first, state.document])
        verdict: Verdict = "reject" if chance.random() < 0.15 else "approve"
        await life.decide(state.status, by, read, verdict, state.version)


async def _check_what_is_published(life: Life) -> None:
    seen = await life.seen()
    assert (seen.status is Status.COMPLETED) == (len(published(life.office)) == 1)
    if seen.status is not Status.COMPLETED:
        return
    document, version = seen.state.document, seen.state.version
    assert published(life.office) == [document.text]
    chain = {"manager": 1, "legal": 2} | ({"board": 2} if document.euros > 100_000 else {})
    for stage, quorum in chain.items():
        one = await life.runtime.state(life.runtime.ref(Approvals, f"d/{stage}-{version}"))
        assert one is not None
        assert one.result.approves(document)
        voters = {vote.by for vote in one.result.votes if vote.verdict == "approve"}
        assert len(voters) >= quorum
        assert "lea" not in voters
