"""money_transfer.py: the saga, the bank, the workers, each by itself and together."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from datetime import timedelta
from pathlib import Path

import pytest

from money_transfer import (
    FEE,
    FEES,
    Bank,
    Credit,
    Debit,
    MoneyTransfer,
    Refund,
    Refunded,
    Refused,
    Transfer,
    TransferRequested,
    TransferReturned,
    bookings,
    credit,
    debit,
    refund,
)
from perdure import Job, Metadata, Runtime, Send, Status
from perdure.testing import SimulatedClock
from tests.runtime.support import quickly


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[Bank]:
    with closing(Bank(tmp_path / "bank.db")) as opened:
        opened.open("alice", 10_000)
        opened.open("bob", 0)
        yield opened


@asynccontextmanager
async def running(bank: Bank, clock: SimulatedClock | None = None) -> AsyncIterator[Runtime]:
    async with Runtime(
        "memory://", [MoneyTransfer, bookings], resources={"bank": bank}, clock=clock
    ) as runtime:
        yield runtime


async def end_of(runtime: Runtime, transfer: TransferRequested) -> tuple[Status, str]:
    await runtime.publish(transfer, message_id=transfer.transfer_id)
    await runtime.settled()
    seen = await runtime.state(runtime.ref(MoneyTransfer, transfer.transfer_id))
    assert seen is not None
    return seen.status, seen.state.status


def transfer(source: str = "alice", target: str = "bob", cents: int = 3_000) -> TransferRequested:
    return TransferRequested("t", source, target, cents)


def outcome_of(bank: Bank, wanted: TransferRequested) -> tuple[Status, str]:
    found: list[tuple[Status, str]] = []

    @quickly
    async def once() -> None:
        async with running(bank) as runtime:
            found.append(await end_of(runtime, wanted))

    once()
    return found[0]


# Decisions


def test_only_a_failed_credit_is_made_up_for() -> None:
    state = Transfer("t", "alice", "bob", 3_000, "debited")
    saga = MoneyTransfer()
    assert saga.compensate(state, Credit("t", "bob", 3_000)) == [Refund("t", "alice", 3_000)]
    assert saga.compensate(state, Debit("t", "alice", 3_000)) is None
    assert saga.compensate(state, Refund("t", "alice", 3_000)) is None


def test_a_request_is_answered_with_a_debit_and_nothing_else() -> None:
    effects = MoneyTransfer().handle(Transfer(), transfer(), Metadata("m"))
    assert list(effects or ()) == [Send(Debit("t", "alice", 3_000))]


# Workers and the bank


def test_a_booking_asked_for_twice_is_there_once(bank: Bank) -> None:
    for _ in range(2):
        debit(Debit("t", "alice", 3_000), Job(key="k-1"), bank)
        credit(Credit("t", "bob", 3_000), Job(key="k-2"), bank)
        assert refund(Refund("t", "alice", 500), Job(key="k-3"), bank) == Refunded("t", 400, FEE)
    assert bank.balances() == {FEES: FEE, "alice": 7_400, "bob": 3_000}


@pytest.mark.parametrize(("cents", "back", "fee"), [(FEE, 0, FEE), (30, 0, 30), (101, 1, FEE)])
def test_the_fee_is_never_more_than_the_money(bank: Bank, cents: int, back: int, fee: int) -> None:
    assert refund(Refund("t", "bob", cents), Job(key="k"), bank) == Refunded("t", back, fee)
    assert bank.balances() == {FEES: fee, "alice": 10_000, "bob": back}


def test_what_the_bank_refuses_leaves_nothing(bank: Bank) -> None:
    bank.close_account(FEES)  # found closed when the refund itself is entered already
    with pytest.raises(Refused, match="account fees is closed"):
        refund(Refund("t", "bob", 500), Job(key="k"), bank)
    with pytest.raises(Refused, match=r"alice has only 100\.00"):
        debit(Debit("t", "alice", 10_001), Job(key="k"), bank)
    with pytest.raises(Refused, match="there is no account nobody"):
        credit(Credit("t", "nobody", 1), Job(key="k"), bank)
    assert bank.balances() == {FEES: 0, "alice": 10_000, "bob": 0}


# Together


def test_a_good_transfer(bank: Bank) -> None:
    assert outcome_of(bank, transfer()) == (Status.COMPLETED, "credited")
    assert bank.balances() == {FEES: 0, "alice": 7_000, "bob": 3_000}


@pytest.mark.parametrize("target", ["bob", "nobody"])
def test_what_cannot_be_credited_comes_back_less_the_fee(bank: Bank, target: str) -> None:
    bank.close_account("bob")
    assert outcome_of(bank, transfer(target=target)) == (Status.COMPLETED, "returned")
    assert bank.balances() == {FEES: FEE, "alice": 10_000 - FEE, "bob": 0}


@pytest.mark.parametrize("source", ["bob", "nobody"])
def test_what_cannot_be_debited_fails_and_moves_nothing(bank: Bank, source: str) -> None:
    assert outcome_of(bank, transfer(source=source, target="alice")) == (
        Status.FAILED,
        "requested",
    )
    assert bank.balances() == {FEES: 0, "alice": 10_000, "bob": 0}


@quickly
async def test_the_residue_is_the_result(tmp_path: Path) -> None:
    with closing(Bank(tmp_path / "bank.db")) as bank:
        bank.open("alice", 10_000)
        async with running(bank) as runtime:
            await end_of(runtime, transfer())
            seen = await runtime.state(runtime.ref(MoneyTransfer, "t"))
    assert seen is not None
    assert seen.result == TransferReturned("t", 3_000 - FEE, FEE)


@quickly
async def test_a_refund_that_fails_is_stuck_until_it_is_redriven(tmp_path: Path) -> None:
    class Closing(Bank):
        """Closes the source while the money is under way."""

        def book(
            self, key: str, transfer: str, kind: str, account: str, cents: int, fee: int = 0
        ) -> None:
            super().book(key, transfer, kind, account, cents, fee)
            if kind == "debit":
                self.close_account(account)

    with (
        closing(Closing(tmp_path / "bank.db")) as bank,
        closing(sqlite3.connect(tmp_path / "bank.db", isolation_level=None)) as by_hand,
    ):
        bank.open("alice", 10_000)
        async with running(bank) as runtime:
            assert await end_of(runtime, transfer()) == (Status.RUNNING, "returning")
            letters = [one async for one in runtime.dead_letters.list(type="Refund")]
            by_hand.execute("UPDATE accounts SET is_open = 1")
            assert [await runtime.dead_letters.redrive(letters[0].id) for _ in range(2)] == [
                True,
                False,
            ]
            assert await end_of(runtime, transfer()) == (Status.COMPLETED, "returned")
        assert bank.balances() == {FEES: FEE, "alice": 10_000 - FEE}


@quickly
async def test_a_bank_that_cannot_be_had_is_asked_until_it_can(tmp_path: Path) -> None:
    class Broken(Bank):
        """Fails more often than any number of attempts one would think of."""

        failures = 40

        def book(
            self, key: str, transfer: str, kind: str, account: str, cents: int, fee: int = 0
        ) -> None:
            if kind == "credit" and self.failures:
                self.failures -= 1
                raise sqlite3.OperationalError("disk I/O error")
            super().book(key, transfer, kind, account, cents, fee)

    clock = SimulatedClock()
    with closing(Broken(tmp_path / "bank.db")) as bank:
        bank.open("alice", 10_000)
        bank.open("bob", 0)
        async with running(bank, clock) as runtime:
            assert await end_of(runtime, transfer()) == (Status.RUNNING, "debited")
            await clock.advance(timedelta(minutes=10))
            assert await end_of(runtime, transfer()) == (Status.COMPLETED, "credited")
        assert bank.balances() == {FEES: 0, "alice": 7_000, "bob": 3_000}
