"""A thousand transfers, killed twenty times with ``kill -9``; then the bank's books are checked.

    python examples/money_transfer_killed.py                # well under a minute
    python examples/money_transfer_killed.py --transfers 100 --kills 4 --seed 7 --json

This process starts another one that works through the transfers of ``money_transfer.py`` (read that
first), kills it in the midst of a booking, starts it again, and so on until all is done. Each tells
of every booking it begins and has ended. The moments of the kills are counted in those, one drawn
at random from each of as many parts, so that none falls where nothing is going on. Every process
publishes all transfers anew, under the same message ids.

At the end the bank's own tables must say that each transfer was debited once, and credited once or
sent back once; that no cent is missing, fees included; and perdure must say the same. The exit code
is 1 if anything is off.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

from money_transfer import (
    FEE,
    FEES,
    Bank,
    MoneyTransfer,
    TransferRequested,
    bookings,
    money,
)
from perdure import Runtime, Status

TOGETHER_MAX = 500
"""So many transfers are published at a time."""

UNFINISHED = 3
"""The exit code of a process that has left something to a later retry."""

UNFINISHED_MAX = 10

LATER_MAX_S = 0.02
"""About as long as ten bookings take."""


# What is to be done: the same in every process, from the seed


def planned(options: argparse.Namespace) -> list[TransferRequested]:
    """The transfers; exactly the share ``failing`` of them goes to closed accounts."""
    chance = random.Random(options.seed)
    open_accounts, closed_accounts = accounts()
    failing = set(chance.sample(range(options.transfers), to_fail(options)))
    return [
        TransferRequested(
            f"t-{number:05}",
            source := chance.choice(open_accounts),
            chance.choice(
                closed_accounts if number in failing else [a for a in open_accounts if a != source]
            ),
            chance.randint(FEE, 500_00),
        )
        for number in range(options.transfers)
    ]


def accounts() -> tuple[list[str], list[str]]:
    """The open and the closed ones."""
    return [f"open-{number:02}" for number in range(40)], [f"closed-{n}" for n in range(5)]


def to_fail(options: argparse.Namespace) -> int:
    transfers: int = options.transfers
    share: float = options.failing
    return round(transfers * share)


def open_bank(options: argparse.Namespace) -> Bank:
    """A bank in which nobody runs out of money, as that would depend on the order of bookings."""
    bank = TellingBank(bank_of(options))
    open_accounts, closed_accounts = accounts()
    for account in open_accounts:
        bank.open(account, options.transfers * 500_00)
    for account in closed_accounts:
        bank.open(account, 0)
        bank.close_account(account)
    return bank


def bank_of(options: argparse.Namespace) -> Path:
    return Path(options.directory) / "bank.db"


def transfers_runtime(options: argparse.Namespace, bank: Bank) -> Runtime:
    url = f"sqlite+aiosqlite:///{Path(options.directory) / 'transfers.db'}"
    return Runtime(url, [MoneyTransfer, bookings], resources={"bank": bank})


# The process that is killed


class TellingBank(Bank):
    """Writes a byte to the standard output when a booking begins, and when it has ended."""

    def book(
        self, key: str, transfer: str, kind: str, account: str, cents: int, fee: int = 0
    ) -> None:
        os.write(sys.stdout.fileno(), b"(")
        try:
            super().book(key, transfer, kind, account, cents, fee)
        finally:
            os.write(sys.stdout.fileno(), b")")


async def work(options: argparse.Namespace) -> int:
    transfers = planned(options)
    with closing(open_bank(options)) as bank:
        async with transfers_runtime(options, bank) as runtime:
            for first in range(0, len(transfers), TOGETHER_MAX):
                await asyncio.gather(
                    *(
                        runtime.publish(one, message_id=f"{one.transfer_id}/requested")
                        for one in transfers[first : first + TOGETHER_MAX]
                    )
                )
            await runtime.settled()
            async for _ in runtime.instances(MoneyTransfer, status=Status.RUNNING):
                return UNFINISHED
    return 0


# The process that kills it


def drive(options: argparse.Namespace) -> Counter[str]:
    """Start, kill and start again until all is done; how often that was."""
    chance = random.Random(f"kills {options.seed}")
    # A debit and a credit for each, a refund for some; begun and ended. Repeats come on top.
    told_least = 2 * (2 * options.transfers + to_fail(options))
    parts = [
        told_least * 9 // 10 * part // max(options.kills, 1) for part in range(options.kills + 1)
    ]
    moments = [chance.randrange(first, end) for first, end in pairwise(parts)]
    counted: Counter[str] = Counter()
    told = 0
    while counted["unfinished"] < UNFINISHED_MAX:
        counted["starts"] += 1
        until = max(moments[0] - told, 1) if moments else None
        code, heard = watch(options, until, chance.uniform(0, LATER_MAX_S))
        told += len(heard)
        if code == -signal.SIGKILL:
            del moments[0]
            counted["kills"] += 1
            counted["kills during a booking"] += heard.count(b"(") > heard.count(b")")
        elif code == UNFINISHED:
            counted["unfinished"] += 1
        else:
            counted["errors"] += code != 0
            break
    return counted


def watch(options: argparse.Namespace, until: int | None, later_s: float) -> tuple[int, bytes]:
    """One process: its exit code, and what it told. Killed some time after so many bytes."""
    command = [sys.executable, __file__, "--child", *as_arguments(options)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, bufsize=0) as child:
        assert child.stdout is not None
        heard = bytearray()
        while byte := child.stdout.read(1):
            heard += byte
            if len(heard) == until:
                time.sleep(later_s)  # not always at the same point of a booking
                child.kill()
        return child.wait(), bytes(heard)


def as_arguments(options: argparse.Namespace) -> list[str]:
    names = ("transfers", "failing", "seed", "directory")
    return [text for name in names for text in (f"--{name}", str(getattr(options, name)))]


# The check


def books(options: argparse.Namespace) -> dict[str, Any]:
    """What the bank's own tables say, and nothing else."""
    with closing(sqlite3.connect(f"file:{bank_of(options)}?mode=ro", uri=True)) as bank:
        entries: dict[str, list[tuple[str, str, int]]] = {}
        listed = "SELECT transfer, kind, account, cents FROM entries WHERE kind <> 'opening'"
        for transfer, kind, account, cents in bank.execute(listed):
            entries.setdefault(transfer, []).append((kind, account, cents))
        (repeated,) = bank.execute("SELECT SUM(asked - 1) FROM entries").fetchone()
        (opened,) = bank.execute("SELECT SUM(cents) FROM entries WHERE kind = 'opening'").fetchone()
        balances = dict(bank.execute("SELECT name, cents FROM accounts"))
        summed = dict(bank.execute("SELECT account, SUM(cents) FROM entries GROUP BY account"))
    kinds = {transfer: Counter(kind for kind, *_ in found) for transfer, found in entries.items()}
    transfers = planned(options)
    return {
        "debited": sum("debit" in found for found in kinds.values()),
        "credited": sum("credit" in found for found in kinds.values()),
        "refunded": sum("refund" in found for found in kinds.values()),
        "lost": sum(not is_whole(kinds.get(one.transfer_id, Counter())) for one in transfers),
        "doubled": sum(is_doubled(found) for found in kinds.values()),
        "not as planned": sum(
            sorted(entries.pop(one.transfer_id, [])) != sorted(expected(one)) for one in transfers
        ),
        "unknown": len(entries),
        "asked again": repeated,
        "money at first": opened,
        "money at last": sum(balances.values()),
        "of it fees": balances[FEES],
        "balances not the sum of their entries": sum(
            summed.get(account, 0) != cents for account, cents in balances.items()
        ),
    }


def is_whole(kinds: Counter[str]) -> bool:
    """Debited, and credited or refunded; how often is another question."""
    return kinds["debit"] > 0 and kinds["credit"] + kinds["refund"] > 0


def is_doubled(kinds: Counter[str]) -> bool:
    """Some booking twice, or both credited and refunded."""
    return any(count > 1 for count in kinds.values()) or kinds["credit"] + kinds["refund"] > 1


def expected(one: TransferRequested) -> list[tuple[str, str, int]]:
    """The entries of a transfer, to the cent."""
    debit = ("debit", one.source, -one.cents)
    if one.target in accounts()[0]:
        return [debit, ("credit", one.target, one.cents)]
    return [debit, ("refund", one.source, one.cents - FEE), ("fee", FEES, FEE)]


async def sagas(options: argparse.Namespace) -> Counter[str]:
    """What perdure says. A credit that failed for good is kept as a dead letter."""
    found: Counter[str] = Counter()
    with closing(open_bank(options)) as bank:
        async with transfers_runtime(options, bank) as runtime:
            async for seen in runtime.instances(MoneyTransfer):
                found[f"sagas {seen.state.status}"] += 1
                found["sagas completed"] += seen.status is Status.COMPLETED
            async for _ in runtime.dead_letters.list(saga=MoneyTransfer, queue="bookings"):
                found["dead letters"] += 1
            found["jobs left"] = await runtime.queue("bookings").depth()
    return found


def complaints(options: argparse.Namespace, found: dict[str, Any]) -> list[str]:
    """What is not as it must be."""
    failing = to_fail(options)
    must = {
        "kills": options.kills,
        "errors": 0,
        "debited": options.transfers,
        "credited": options.transfers - failing,
        "refunded": failing,
        "lost": 0,
        "doubled": 0,
        "not as planned": 0,
        "unknown": 0,
        "money at last": found["money at first"],
        "of it fees": failing * FEE,
        "balances not the sum of their entries": 0,
        "sagas completed": options.transfers,
        "sagas credited": options.transfers - failing,
        "sagas returned": failing,
        "dead letters": failing,
        "jobs left": 0,
    }
    return [
        f"{name}: {found.get(name, 0)}, must be {wanted}"
        for name, wanted in must.items()
        if found.get(name, 0) != wanted
    ]


# The program


def in_words(found: dict[str, Any]) -> str:
    lines = []
    for name, value in found.items():
        is_money = name.startswith("money") or name == "of it fees"
        lines.append(f"{name:38}{money(value) if is_money else value}")
    return "\n".join(lines)


def run(options: argparse.Namespace) -> int:
    began_s = time.monotonic()
    counted = drive(options)
    found = {
        "transfers": options.transfers,
        "to closed accounts": to_fail(options),
        "kills": counted["kills"],
        "kills during a booking": counted["kills during a booking"],
        "starts": counted["starts"],
        "errors": counted["errors"],
        **books(options),
        **asyncio.run(sagas(options)),
        "seconds": round(time.monotonic() - began_s),
    }
    wrong = complaints(options, found)
    print(json.dumps(found, indent=2) if options.json else in_words(found))
    for complaint in wrong:
        print(f"wrong: {complaint}", file=sys.stderr)
    if not wrong and not options.json:
        print("Every transfer was debited once, and credited or refunded once.")
    return 1 if wrong else 0


def options_of(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Transfers that are killed again and again.")
    parser.add_argument("--transfers", type=int, default=1000, metavar="N")
    parser.add_argument("--failing", type=float, default=0.2, metavar="SHARE")
    parser.add_argument("--kills", type=int, default=20, metavar="N", help="with kill -9")
    parser.add_argument("--seed", type=int, default=1, metavar="N")
    parser.add_argument("--directory", help="for the two files (default: a temporary one)")
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.transfers < 1 or not 0 <= options.failing <= 1:
        parser.error("--transfers must be above 0, --failing from 0 to 1")
    if not 0 <= options.kills <= options.transfers:
        parser.error("--kills must be from 0 to the number of transfers")
    return options


def main(arguments: list[str] | None = None) -> int:
    options = options_of(arguments)
    logging.basicConfig(level=logging.CRITICAL)  # a credit that fails for good is no news here
    if options.child:
        return asyncio.run(work(options))
    with tempfile.TemporaryDirectory() as temporary:
        options.directory = options.directory or temporary
        Path(options.directory).mkdir(parents=True, exist_ok=True)
        if bank_of(options).exists():
            print(f"error: {bank_of(options)} is of an earlier run", file=sys.stderr)
            return 1
        return run(options)


if __name__ == "__main__":
    sys.exit(main())
