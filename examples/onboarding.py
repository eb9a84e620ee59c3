"""New users, from signing up to paying: a coroutine that waits for months, through a crash.

    python examples/onboarding.py

    signed up ─> account, letter, file ─> first login? ─ 30 days ─> reminder ─ 14 days ─┐
                                                │                                       │
                                         30 days of trial                               v
                                                └─> 9.00 each month ─ declined ─> account closed

The office's books are a SQLite file of its own beside the store. The first process is killed by
``kill -9`` in the midst of a step; a second one goes on over the same files, is stopped in order
halfway, and goes on with a newer version of the code, whose steps come in another order. Time is
simulated, so that months pass at once; without the ``clock`` given to ``Runtime`` they take months,
and all else is the same.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from perdure import (
    Context,
    CoroutineWorkflow,
    Fixed,
    Job,
    NonRetryable,
    Runtime,
    StepFailed,
    WorkflowCancelled,
    message,
    step,
    workflow,
)
from perdure.testing import SimulatedClock

DAY = timedelta(days=1)
START = datetime(2026, 1, 5, tzinfo=UTC)
NEVER_CAME = "never came"


# Messages


@message
class SignedUp:
    user_id: str
    card: str


@message
class FirstLogin:
    user_id: str


@message
class Account:
    number: int
    user_id: str
    card: str


# Steps: plain functions. What they have done is in the books, under a key that stays the same


class Books:
    """The office's own: who has an account, and what was done, each key once."""

    def __init__(self, file: Path) -> None:
        self.file = file
        with closing(sqlite3.connect(file)) as db:
            db.executescript(
                """CREATE TABLE IF NOT EXISTS accounts (
                       number INTEGER PRIMARY KEY, user_id TEXT UNIQUE, is_open INTEGER DEFAULT 1);
                   CREATE TABLE IF NOT EXISTS done (key TEXT PRIMARY KEY, day TEXT, what TEXT);"""
            )

    def do(self, job: Job, what: str, sql: str = "", *values: object) -> bool:
        """In one transaction, once; False if it was done before."""
        row = (job.key, f"{job.enqueued_at:%Y-%m-%d}", what)
        with closing(sqlite3.connect(self.file, timeout=30)) as db, db:
            is_new = db.execute("INSERT INTO done VALUES (?, ?, ?) ON CONFLICT DO NOTHING", row)
            if is_new.rowcount and sql:
                db.execute(sql, values)
            return is_new.rowcount == 1

    def rows(self, sql: str, *values: object) -> list[tuple[str, ...]]:
        with closing(sqlite3.connect(self.file)) as db:
            return db.execute(sql, values).fetchall()


def create_account(user: SignedUp, job: Job, books: Books) -> Account:
    opened = f"account for {user.user_id}"
    books.do(job, opened, "INSERT INTO accounts (user_id) VALUES (?)", user.user_id)
    ((number,),) = books.rows("SELECT number FROM accounts WHERE user_id = ?", user.user_id)
    return Account(int(number), user.user_id, user.card)


def write_letter(letter: dict[str, str], job: Job, books: Books) -> None:
    books.do(job, f"letter to {letter['to']}: {letter['text']}")


@step(retry=Fixed(1, max_attempts=None))
def open_file(user_id: str, job: Job, books: Books, accident: Path) -> None:
    is_new = books.do(job, f"customer file of {user_id}")
    if user_id == "ann" and not accident.exists():
        accident.touch()
        os.kill(os.getpid(), signal.SIGKILL)  # it was done, and nobody was told
    if not is_new:
        print(f"          {job.key} is asked for again, and was done")


@step(deadline=7 * DAY)
def charge(account: Account, job: Job, books: Books) -> None:
    if account.card == "expired":
        raise NonRetryable("the card is declined")
    books.do(job, f"{account.user_id} pays 9.00")


def close_account(account: Account, job: Job, books: Books) -> None:
    closed = f"account of {account.user_id} closed"
    books.do(job, closed, "UPDATE accounts SET is_open = 0 WHERE number = ?", account.number)


# The workflow


declared = workflow(
    "onboarding",
    SignedUp,
    by="user_id",
    steps=[create_account, write_letter, open_file, charge, close_account],
    events={FirstLogin: "user_id"},
    timeout=365 * DAY,
)


async def onboard(ctx: Context, user: SignedUp) -> str:
    account = await ctx.step(create_account, user)
    await ctx.gather(write(ctx, account, "welcome"), ctx.step(open_file, user.user_id))
    return await try_and_pay(ctx, account)


async def try_and_pay(ctx: Context, account: Account) -> str:
    try:
        if not await has_come(ctx, account):
            await ctx.step(close_account, account)
            return NEVER_CAME
        since = ctx.now  # the same in every turn
        await ctx.sleep("trial", days=30)
        for month in range(3):
            await ctx.step(charge, account, key=month)
            await ctx.sleep("month", days=30, key=month)
        return f"customer since {since:%d %b}"
    except (StepFailed, WorkflowCancelled):
        await ctx.step(close_account, account)
        raise


async def has_come(ctx: Context, account: Account) -> bool:
    if await ctx.wait_event(FirstLogin, timeout=30 * DAY):
        return True
    await write(ctx, account, "we miss you")
    return await ctx.wait_event(FirstLogin, timeout=14 * DAY, key="reminded") is not None


async def write(ctx: Context, account: Account, text: str) -> None:
    await ctx.step(write_letter, {"to": account.user_id, "text": text}, key=text)


onboarding = declared(onboard)


async def onboard_and_thank(ctx: Context, user: SignedUp) -> str:
    """The newer version: another order, and one letter more."""
    _, account = await ctx.gather(ctx.step(open_file, user.user_id), ctx.step(create_account, user))
    await write(ctx, account, "welcome")
    end = await try_and_pay(ctx, account)
    if end != NEVER_CAME:
        await write(ctx, account, "thank you")
    return end


newer_onboarding = declared(onboard_and_thank)


# The story


USERS = [
    SignedUp("ann", "good"),
    SignedUp("bob", "good"),  # never comes
    SignedUp("cid", "expired"),
    SignedUp("dot", "good"),  # changes her mind
]


class Office:
    """A runtime over the files of this folder."""

    def __init__(self, folder: Path, clock: SimulatedClock, saga: CoroutineWorkflow) -> None:
        self.clock = clock
        self.saga = saga
        self.books = Books(folder / "books.db")
        resources = {"books": self.books, "accident": folder / "accident"}
        url = f"sqlite+aiosqlite:///{folder / 'onboarding.db'}"
        self.runtime = Runtime(url, [saga], resources=resources, clock=clock)

    async def sign_up(self, *users: SignedUp) -> None:
        for user in users:
            await self.runtime.publish(user, message_id=f"web-{user.user_id}")
        await self.runtime.settled()

    async def wait(self, days: int) -> None:
        before = self.clock.now
        await self.clock.advance(days * DAY)
        print(f"          {days} days pass")
        self.show(f"{before:%Y-%m-%d}")

    def show(self, after: str) -> None:
        """What was done after a day."""
        done = "SELECT day, what FROM done WHERE day > ? ORDER BY day, what"
        for day, what in self.books.rows(done, after):
            print(f"  {datetime.fromisoformat(day):%d %b}  {what}")


async def first_process(folder: Path) -> None:
    office = Office(folder, SimulatedClock(START), onboarding)
    async with office.runtime:
        await office.sign_up(USERS[0])


async def second_process(folder: Path) -> None:
    clock = SimulatedClock(START)
    office = Office(folder, clock, onboarding)
    async with office.runtime as runtime:
        await office.sign_up(*USERS)  # ann had no answer; what is known of her stays as it is
        office.show("")
        await office.wait(3)
        for user_id in ("ann", "cid", "dot"):
            await runtime.publish(FirstLogin(user_id))
            print(f"  {clock.now:%d %b}  {user_id} logs in")
        await office.wait(7)
        await runtime.cancel(runtime.ref(onboarding, "dot"), "changed her mind")
        await runtime.settled()
        office.show("2026-01-08")
    print("          stopped in order; a newer version goes on over the same files")
    office = Office(folder, clock, newer_onboarding)
    async with office.runtime as runtime:
        await office.wait(35)
        await office.wait(100)
        print("\nThe end:")
        async for seen in runtime.instances(newer_onboarding):
            print(f"  {seen.correlation_id} {seen.status}: {seen.result or seen.failure}")
    for number, user_id in office.books.rows("SELECT number, user_id FROM accounts WHERE is_open"):
        print(f"  account {number} of {user_id} is open")


def main() -> None:
    logging.basicConfig(level=logging.CRITICAL)  # what fails here is told by the story itself
    if len(sys.argv) > 1:
        asyncio.run(first_process(Path(sys.argv[1])))
        sys.exit("it was not killed")
    with tempfile.TemporaryDirectory() as directory:
        ended = subprocess.run([sys.executable, __file__, directory], check=False)
        print(f"The first process, with ann, has ended with exit code {ended.returncode}.")
        print("The second one goes on over the same files; time is simulated:")
        asyncio.run(second_process(Path(directory)))


if __name__ == "__main__":
    main()
