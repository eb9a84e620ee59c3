"""Money goes from one account to another. If the other is closed it comes back, less a fee.

    python examples/money_transfer.py                       # in a temporary directory
    python examples/money_transfer.py --directory money     # keeps bank.db and transfers.db

A transfer debits one account, then credits the other: two commands, performed by workers in the
bank. An account that is closed cannot be credited, now or ever: the command has failed for good,
and ``@compensates`` says what makes up for it. All is not as it was then: a fee remains.

There are two files. ``transfers.db`` is perdure's. ``bank.db`` is the bank's own and knows nothing
of sagas; a booking that is asked for again, by a process that goes on where another was killed, is
in it once, because it carries the key of its command. Next to read: ``money_transfer_killed.py``,
which kills this twenty times and then counts the money.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sqlite3
import tempfile
import threading
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from perdure import (
    CommandFailed,
    Effects,
    Exponential,
    InstanceView,
    Job,
    ProcessManager,
    Runtime,
    WorkQueue,
    applies,
    compensates,
    continues,
    message,
    on_command_failed,
    starts,
)

FEE = 100
"""What the bank keeps, in cents, when money could not be delivered."""

FEES = "fees"
"""The account it keeps that in."""


# Messages. Commands say what the bank shall do, events what has happened.


@message
class TransferRequested:
    transfer_id: str
    source: str
    target: str
    cents: int


@message
class Debit:
    transfer_id: str
    account: str
    cents: int


@message
class Debited:
    transfer_id: str


@message
class Credit:
    transfer_id: str
    account: str
    cents: int


@message
class Credited:
    transfer_id: str


@message
class Refund:
    transfer_id: str
    account: str
    cents: int


@message
class Refunded:
    transfer_id: str
    cents: int
    fee: int


@message
class TransferDone:
    transfer_id: str


@message
class TransferReturned:
    """The money is back where it came from; the fee is the residue."""

    transfer_id: str
    cents: int
    fee: int


# The process manager: what is decided


@dataclass(frozen=True)
class Transfer:
    transfer_id: str = ""
    source: str = ""
    target: str = ""
    cents: int = 0
    status: str = "new"


class MoneyTransfer(ProcessManager[Transfer]):
    @starts(TransferRequested, by="transfer_id", when="new")
    def requested(self, state: Transfer, event: TransferRequested, do: Effects) -> None:
        do.send(Debit(event.transfer_id, event.source, event.cents))

    @continues(Debited, by="transfer_id")
    def debited(self, state: Transfer, event: Debited, do: Effects) -> None:
        do.send(Credit(state.transfer_id, state.target, state.cents))

    @continues(Credited, by="transfer_id")
    def credited(self, state: Transfer, event: Credited, do: Effects) -> None:
        do.complete(TransferDone(state.transfer_id))

    @on_command_failed(Debit)
    def not_debited(self, state: Transfer, failure: CommandFailed, do: Effects) -> None:
        do.fail(failure.error)  # no money has moved, there is nothing to make up for

    @compensates(Credit)
    def send_back(self, state: Transfer, failed: Credit) -> list[Refund]:
        return [Refund(state.transfer_id, state.source, state.cents)]

    @continues(Refunded, by="transfer_id")
    def refunded(self, state: Transfer, event: Refunded, do: Effects) -> None:
        do.complete(TransferReturned(state.transfer_id, event.cents, event.fee))

    @applies(TransferRequested)
    def on_requested(self, state: Transfer, event: TransferRequested) -> Transfer:
        return Transfer(event.transfer_id, event.source, event.target, event.cents, "requested")

    @applies(Debited)
    def on_debited(self, state: Transfer, event: Debited) -> Transfer:
        return replace(state, status="debited")

    @applies(Credited)
    def on_credited(self, state: Transfer, event: Credited) -> Transfer:
        return replace(state, status="credited")

    @applies(CommandFailed)
    def on_failed(self, state: Transfer, failure: CommandFailed) -> Transfer:
        is_debited = state.status == "debited"
        return replace(state, status="returning" if is_debited else state.status)

    @applies(Refunded)
    def on_refunded(self, state: Transfer, event: Refunded) -> Transfer:
        return replace(state, status="returned")


# The bank: a database of its own


class Refused(Exception):
    """The bank will not do this, now or later."""


class Bank:
    """Accounts, and every booking under the key it was asked for with. For any thread.

    ``entries.asked`` counts how often it was: more than once when a worker did not live to tell.
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, timeout=30, check_same_thread=False)
        self._db.executescript(
            """
            PRAGMA journal_mode = WAL;
            PRAGMA synchronous = FULL;
            CREATE TABLE IF NOT EXISTS accounts (
                name TEXT PRIMARY KEY, cents INTEGER NOT NULL, is_open INTEGER NOT NULL);
            CREATE TABLE IF NOT EXISTS entries (
                key TEXT PRIMARY KEY, transfer TEXT NOT NULL, kind TEXT NOT NULL,
                account TEXT NOT NULL, cents INTEGER NOT NULL, asked INTEGER NOT NULL DEFAULT 1);
            """
        )
        self.open(FEES, 0)

    def open(self, account: str, cents: int) -> None:
        """Open an account with some money; one that is there stays as it is."""
        with self._lock, self._db:
            new = "INSERT INTO accounts VALUES (?, 0, 1) ON CONFLICT DO NOTHING"
            if self._db.execute(new, (account,)).rowcount:
                self._enter(f"opening/{account}", "", "opening", account, cents)

    def close_account(self, account: str) -> None:
        """From now on nothing goes in or out."""
        with self._lock, self._db:
            self._db.execute("UPDATE accounts SET is_open = 0 WHERE name = ?", (account,))

    def book(
        self, key: str, transfer: str, kind: str, account: str, cents: int, fee: int = 0
    ) -> None:
        """Add the cents, less than zero to take them, and a fee to the bank's: once for a key.

        One transaction: the entries and the balances change together. Raises ``Refused``.
        """
        with self._lock, self._db:
            asked = "UPDATE entries SET asked = asked + 1 WHERE key = ?"
            if self._db.execute(asked, (key,)).rowcount:
                return  # booked before
            self._enter(key, transfer, kind, account, cents)
            if fee:
                self._enter(f"{key}/fee", transfer, "fee", FEES, fee)

    def _enter(self, key: str, transfer: str, kind: str, account: str, cents: int) -> None:
        found = self._db.execute("SELECT cents, is_open FROM accounts WHERE name = ?", (account,))
        balance, is_open = found.fetchone() or (0, None)
        if is_open is None:
            raise Refused(f"there is no account {account}")
        if not is_open:
            raise Refused(f"account {account} is closed")
        if balance + cents < 0:
            raise Refused(f"account {account} has only {money(balance)}")
        self._db.execute("UPDATE accounts SET cents = cents + ? WHERE name = ?", (cents, account))
        self._db.execute(
            "INSERT INTO entries (key, transfer, kind, account, cents) VALUES (?, ?, ?, ?, ?)",
            (key, transfer, kind, account, cents),
        )

    def balances(self) -> dict[str, int]:
        """All accounts and what is in them, in cents."""
        with self._lock:
            return dict(self._db.execute("SELECT name, cents FROM accounts ORDER BY rowid"))

    def close(self) -> None:
        """Give up the file."""
        self._db.close()


# The workers: what is done. A booking is repeated until the bank has answered: while nobody knows
# whether the money has moved, sending it back would be wrong. Only a plain refusal is final.

bookings = WorkQueue(
    "bookings", retry=Exponential(0.1, max_s=10, max_attempts=None), non_retryable=(Refused,)
)


@bookings.worker
def debit(command: Debit, job: Job, bank: Bank) -> Debited:
    bank.book(job.key, command.transfer_id, "debit", command.account, -command.cents)
    return Debited(command.transfer_id)


@bookings.worker
def credit(command: Credit, job: Job, bank: Bank) -> Credited:
    bank.book(job.key, command.transfer_id, "credit", command.account, command.cents)
    return Credited(command.transfer_id)


@bookings.worker
def refund(command: Refund, job: Job, bank: Bank) -> Refunded:
    fee = min(FEE, command.cents)
    back = command.cents - fee
    bank.book(job.key, command.transfer_id, "refund", command.account, back, fee)
    return Refunded(command.transfer_id, back, fee)


# The story


TRANSFERS = [
    TransferRequested("t-1", "alice", "bob", 30_00),
    TransferRequested("t-2", "alice", "carol", 50_00),
    TransferRequested("t-3", "bob", "alice", 900_00),
    TransferRequested("t-4", "alice", "nobody", 10_00),
]


async def story(directory: Path) -> None:
    url = f"sqlite+aiosqlite:///{directory / 'transfers.db'}"
    with closing(Bank(directory / "bank.db")) as bank:
        for account, cents in (("alice", 100_00), ("bob", 20_00), ("carol", 0)):
            bank.open(account, cents)
        bank.close_account("carol")
        print_balances("before:", bank)
        async with Runtime(url, [MoneyTransfer, bookings], resources={"bank": bank}) as runtime:
            for transfer in TRANSFERS:
                await runtime.publish(transfer, message_id=f"{transfer.transfer_id}/requested")
                await runtime.settled()  # until the bank has done all that comes of it
            async for seen in runtime.instances(MoneyTransfer):
                print_transfer(seen)
        print_balances("after:", bank)


def print_transfer(seen: InstanceView) -> None:
    state: Transfer = seen.state
    end = seen.failure or state.status
    if isinstance(seen.result, TransferReturned):
        end = f"compensated with residue: fee {money(seen.result.fee)}"
    way = f"{money(state.cents):>6} from {state.source} to {state.target}"
    print(f"  {state.transfer_id} {way}: {seen.status}, {end}")


def print_balances(when: str, bank: Bank) -> None:
    balances = bank.balances()
    listed = ", ".join(f"{account} {money(cents)}" for account, cents in balances.items())
    print(f"{when:8}{listed}; together {money(sum(balances.values()))}")


def money(cents: int) -> str:
    """
    >>> money(123456)
    '1234.56'
    """
    return f"{cents // 100}.{cents % 100:02}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Money goes from one account to another.")
    parser.add_argument("--directory", type=Path, help="for the two files (default: a temporary)")
    options = parser.parse_args()
    logging.basicConfig(level=logging.CRITICAL)  # what fails here is told by the story itself
    with tempfile.TemporaryDirectory() as temporary:
        directory = options.directory or Path(temporary)
        directory.mkdir(parents=True, exist_ok=True)
        asyncio.run(story(directory))


if __name__ == "__main__":
    main()
