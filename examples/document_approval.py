"""A document passes a chain of approvals: people decide on it, or do not, for weeks.

    python examples/document_approval.py

    handed in ─> line manager ─> legal, two of them ─> board, if it is large ─> published
        ^              └────────────────┴────────────────┤
        └── changed by the author <── rejected ──────────┤
                                                         └ not decided in time: over

Each stage is a child of the dossier, an approval with its own rules (see ``docs/approvals.md``).
People are played by this script, and time is simulated, so that weeks pass at once; without the
``clock`` given to ``Runtime`` they take weeks, and all else is the same. In the middle of an
approval the runtime is stopped for five days, and another goes on over the same SQLite file.
"""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import groupby
from pathlib import Path

from perdure import (
    Approval,
    ApprovalDecided,
    Approvals,
    AskApproval,
    ChildEnded,
    Decide,
    Effects,
    Exponential,
    Job,
    ProcessManager,
    Rung,
    Runtime,
    Who,
    WorkQueue,
    applies,
    continues,
    digest_of,
    message,
    on_child_ended,
    on_deadline,
    starts,
)
from perdure.approvals import ApprovalAsked, ApprovalEscalated, ApprovalReminder, Verdict, submit
from perdure.testing import SimulatedClock

DAY = timedelta(days=1)
LARGE = 100_000
"""Above so many euros the board decides, too."""

GROUPS = {"legal": ("lea", "leo", "liz"), "board": ("bea", "ben"), "sales": ("sam",)}


# Messages


@message
class PublishDocument:
    """What is approved, by its digest: the very command that is sent at the end."""

    document_id: str
    author: str
    text: str
    euros: int


@message
class HandedIn:
    """By the author; also a changed one, when it was rejected."""

    document: PublishDocument
    manager: str


@message
class MovedTo:
    """Recorded by the dossier: the rules may change, what was decided by them stays."""

    status: str


@message
class Published:
    document_id: str


# The process manager: who is asked next, and what comes of the answer


NOTHING = PublishDocument("", "", "", 0)


@dataclass(frozen=True)
class Progress:
    """``status`` is the stage, or what comes before, between and after them."""

    document: PublishDocument = NOTHING
    version: int = 0
    status: str = "new"


LEGAL = Approval(
    Who(groups=("legal",)), quorum=2, not_requester=True, ladder=(Rung(4 * DAY),), expires=14 * DAY
)
BOARD = Approval(
    Who(groups=("board",)),
    quorum=2,
    not_requester=True,
    ladder=(Rung(5 * DAY), Rung(10 * DAY, Who(people=("chair",)))),  # then the chair may, too
    expires=21 * DAY,
)


def document_id(event: HandedIn) -> str:
    return event.document.document_id


class Dossier(ProcessManager[Progress]):
    @starts(HandedIn, by=document_id, when=("new", "with the author"))
    def handed_in(self, state: Progress, event: HandedIn, do: Effects) -> None:
        do.cancel_deadline("changed")
        manager = Approval(Who(people=(event.manager,)), not_requester=True, expires=7 * DAY)
        self.ask("manager", manager, state, do)

    def ask(self, stage: str, policy: Approval, state: Progress, do: Effects) -> None:
        do.record(MovedTo(stage))
        question = AskApproval("", state.document, policy, requester=state.document.author)
        do.start_child(f"{stage}-{state.version}", Approvals, question)  # its id: "d-1/legal-1"

    @on_child_ended()
    def decided(self, state: Progress, ended: ChildEnded, do: Effects) -> None:
        end = ended.result
        if end is None or end.outcome in ("expired", "withdrawn"):
            do.fail(f"{ended.name}: {end.outcome if end else ended.error}")
        elif not end.approves(state.document):  # exactly this
            do.record(MovedTo("with the author"))
            do.deadline("changed", 30 * DAY)
        elif state.status == "manager":
            self.ask("legal", LEGAL, state, do)
        elif state.status == "legal" and state.document.euros > LARGE:
            self.ask("board", BOARD, state, do)
        else:
            do.record(MovedTo("approved"))
            do.send(state.document)

    @on_deadline("changed")
    def not_changed(self, state: Progress, do: Effects) -> None:
        do.fail("rejected, and not handed in again")

    @continues(Published, by="document_id")
    def published(self, state: Progress, event: Published, do: Effects) -> None:
        do.record(MovedTo("published"))
        do.complete()

    @applies(HandedIn)
    def on_handed_in(self, state: Progress, event: HandedIn) -> Progress:
        author = state.document.author or event.document.author  # stays, whoever hands in again
        document = replace(event.document, author=author)
        return replace(state, document=document, version=state.version + 1)

    @applies(MovedTo)
    def on_moved_to(self, state: Progress, event: MovedTo) -> Progress:
        return replace(state, status=event.status)


# The workers: what is done, in a database of the office's own


TABLES = """
    CREATE TABLE published (key TEXT PRIMARY KEY, document TEXT, author TEXT, text TEXT);
    CREATE TABLE mailbox (key TEXT, person TEXT, day TEXT, text TEXT, PRIMARY KEY (key, person));
"""


def add(office: Path, table: str, *rows: tuple[str, str, str, str]) -> None:
    """All of them or none; what is there already, under the same key, is not added again."""
    with closing(sqlite3.connect(office, timeout=30)) as db, db:
        db.executemany(f"INSERT INTO {table} VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING", rows)


def rows_of(office: Path, query: str) -> list[tuple[str, ...]]:
    with closing(sqlite3.connect(office)) as db:
        return db.execute(query).fetchall()


FOR_EVER = Exponential(1, max_attempts=None)
publishing = WorkQueue("publishing", retry=FOR_EVER)
notices = WorkQueue("notices", retry=FOR_EVER, sequential=True)


@publishing.worker
def publish(command: PublishDocument, job: Job, office: Path) -> Published:
    add(office, "published", (job.key, command.document_id, command.author, command.text))
    return Published(command.document_id)


@notices.subscriber
def tell(
    event: ApprovalAsked | ApprovalReminder | ApprovalEscalated | ApprovalDecided,
    job: Job,
    office: Path,
) -> None:
    what = event.approval_id
    match event:
        case ApprovalAsked():
            people, text = those(event.policy.who, event.requester), f"please decide on {what}"
        case ApprovalReminder():
            voted = (vote.by for vote in event.votes)
            people = those(event.who, event.subject.author, *voted)
            text = f"reminder, please decide on {what}"
        case ApprovalEscalated():
            people = those(event.who, event.subject.author)
            text = f"escalated, please decide on {what}"
        case ApprovalDecided():
            comments = [f", {vote.by} says: {vote.comment}" for vote in event.votes if vote.comment]
            people, text = [event.requester], f"{what} is {event.outcome}{''.join(comments)}"
    day = f"{job.enqueued_at:%d %b}"
    add(office, "mailbox", *((job.key, person, day, text) for person in people))


def those(who: Who, *but: str) -> list[str]:
    """Everybody who may decide, by name, except for some."""
    people = [*who.people, *(person for group in who.groups for person in GROUPS.get(group, ()))]
    return [person for person in dict.fromkeys(people) if person not in but]


# The story


class Desk:
    """Where people come to. It vouches for who they are, and shows what comes of what they want."""

    def __init__(self, runtime: Runtime, clock: SimulatedClock, office: Path) -> None:
        self.runtime, self.clock, self.office = runtime, clock, office
        self.seen = len(self.letters())

    async def hand_in(self, document: PublishDocument, manager: str) -> None:
        for receipt in await self.runtime.publish(HandedIn(document, manager)):
            await self.show(f"{document.document_id} is handed in: {receipt.outcome}")

    async def decide(
        self, approval_id: str, by: str, verdict: Verdict, read: PublishDocument, comment: str = ""
    ) -> None:
        groups = tuple(group for group, people in GROUPS.items() if by in people)
        decision = Decide(approval_id, by, verdict, digest_of(read), groups, comment)
        answer = await submit(self.runtime, decision)
        why = answer.reason or ("" if answer.outcome else f"{answer.missing} missing")
        shown = f"{by}, {verdict} {approval_id}: {answer.word}"
        await self.show(f"{shown} ({why})" if why else shown)

    async def wait(self, days: int) -> None:
        print(f"          {days} days pass")
        await self.clock.advance(days * DAY)
        await self.show_letters()

    async def show(self, what: str) -> None:
        print(f"  {self.clock.now:%d %b}  {what}")
        await self.show_letters()

    async def show_letters(self) -> None:
        """Those written since the last look."""
        await self.runtime.settled()
        letters = self.letters()
        for (day, text), same in groupby(letters[self.seen :], key=lambda letter: letter[:2]):
            print(f"  {day}    to {', '.join(person for *_, person in same)}: {text}")
        self.seen = len(letters)

    def letters(self) -> list[tuple[str, ...]]:
        return rows_of(self.office, "SELECT day, text, person FROM mailbox ORDER BY rowid")


LEASE = PublishDocument("d-1", "lea", "We rent the hall.", 40_000)
OFFER = PublishDocument("d-2", "ada", "We clean the hall.", 30_000)
TAKEOVER = PublishDocument("d-3", "ada", "We buy the hall.", 2_500_000)


async def story(directory: Path) -> None:
    office, clock = directory / "office.db", SimulatedClock(datetime(2026, 1, 5, tzinfo=UTC))
    with closing(sqlite3.connect(office)) as db:
        db.executescript(TABLES)
    async with runtime_over(directory / "approvals.db", office, clock) as runtime:
        await begin_lease(Desk(runtime, clock, office))
    print("          the runtime is stopped; 5 days later another goes on over the same file")
    await clock.advance(5 * DAY)
    async with runtime_over(directory / "approvals.db", office, clock) as runtime:
        desk = Desk(runtime, clock, office)
        await end_lease(desk)
        await change_offer(desk)
        await forget_takeover(desk)
        print("\nThe end:")
        async for seen in runtime.instances(Dossier):
            how = seen.failure or f"{seen.state.status} in version {seen.state.version}"
            print(f"  {seen.correlation_id} {seen.status}, {how}")
    for row in rows_of(office, "SELECT document, author, text FROM published ORDER BY document"):
        print("  to be read by all:", *row)


def runtime_over(store: Path, office: Path, clock: SimulatedClock) -> Runtime:
    members = (Dossier, Approvals, publishing, notices)
    url = f"sqlite+aiosqlite:///{store}"
    return Runtime(url, members, resources={"office": office}, clock=clock)


async def begin_lease(desk: Desk) -> None:
    print("\nA lease, by lea, who is of the legal department herself:")
    await desk.hand_in(LEASE, manager="max")
    await desk.decide("d-1/manager-1", "sam", "approve", LEASE)
    await desk.decide("d-1/manager-1", "max", "approve", LEASE)
    await desk.decide("d-1/legal-1", "lea", "approve", LEASE)
    await desk.decide("d-1/legal-1", "leo", "approve", LEASE)
    await desk.decide("d-1/legal-1", "leo", "approve", LEASE)


async def end_lease(desk: Desk) -> None:
    await desk.show_letters()
    await desk.decide("d-1/legal-1", "liz", "approve", LEASE)
    await desk.decide("d-1/legal-1", "leo", "reject", LEASE)


async def change_offer(desk: Desk) -> None:
    print("\nAn offer, by ada, which is changed:")
    await desk.hand_in(OFFER, manager="max")
    await desk.decide("d-2/manager-1", "max", "approve", OFFER)
    await desk.decide("d-2/legal-1", "leo", "reject", OFFER, "until when?")
    await desk.wait(6)
    changed = replace(OFFER, text="We clean the hall until May.")
    await desk.hand_in(changed, manager="max")
    await desk.decide("d-2/manager-2", "max", "approve", OFFER)  # he has the old one before him
    await desk.decide("d-2/manager-2", "max", "approve", changed)
    await desk.decide("d-2/legal-2", "liz", "approve", changed)
    await desk.decide("d-2/legal-2", "leo", "approve", changed)


async def forget_takeover(desk: Desk) -> None:
    print("\nA takeover, by ada, large enough for the board:")
    await desk.hand_in(TAKEOVER, manager="max")
    for stage, by in (("manager", "max"), ("legal", "leo"), ("legal", "liz"), ("board", "bea")):
        await desk.decide(f"d-3/{stage}-1", by, "approve", TAKEOVER)
    await desk.decide("d-3/board-1", "chair", "approve", TAKEOVER)
    await desk.wait(21)
    await desk.decide("d-3/board-1", "chair", "approve", TAKEOVER)


def main() -> None:
    print("People are played by this script, and time is simulated: the weeks pass at once.")
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(story(Path(directory)))


if __name__ == "__main__":
    main()
