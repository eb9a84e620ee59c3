"""What the commands show of mail that nobody has taken, and of who owns the shards."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from perdure import Runtime, Settings
from perdure.cluster import Cluster, ClusterSettings
from perdure.errors import SendTimeout
from perdure.ops.cli.exits import Exit
from tests.cluster.support import session_of
from tests.ops.cli.support import Command
from tests.runtime.support import in_loop
from tests.sagas import Ledger, Opened

TAKES = ClusterSettings(beat_s=0.05, lease_s=2.0, absent_s=0.2, poll_s=0.02)
SENDS = replace(TAKES, takes_shards=False)


@pytest.fixture
def mailed(perdure: Command, postgres: str) -> Command:
    """A message was accepted, and no process takes shards."""
    perdure.path = postgres  # type: ignore[assignment]

    @in_loop(30)
    async def send() -> None:
        async with Cluster(
            postgres, [Ledger], Settings(shutdown_timeout_s=0.1), cluster=SENDS
        ) as front:
            with pytest.raises(SendTimeout):
                await front.send(front.ref(Ledger, "w"), Opened("w"), timeout_s=0.3)

    send()
    return perdure


def test_mail_that_nobody_takes_is_listed(mailed: Command) -> None:
    [row] = mailed.rows("inbox")
    assert (row["saga"], row["correlation_id"], row["reason"]) == ("Ledger", "w", "mail")
    assert row["type"].endswith(".opened")
    assert "w" in row["content"].values()
    assert row["since"]
    assert "no live owner" in row["error"]
    assert "mail" in mailed("inbox")


def test_an_instance_says_that_messages_for_it_are_in_the_mail(mailed: Command) -> None:
    said = mailed("instances", "why", "Ledger/w")
    assert "1 message for it is in the mail of shard" in said
    assert "has no live owner" in said
    assert "no message waits" not in said


def test_it_is_critical_that_mail_waits_and_there_is_no_owner(mailed: Command) -> None:
    found = mailed.document("health", exits=Exit.CRITICAL)
    assert "16 of 16 shards have no live owner" in found["issues"][0]["text"]


def test_without_mail_it_is_a_warning_that_there_is_no_owner(
    perdure: Command, postgres: str
) -> None:
    perdure.path = postgres  # type: ignore[assignment]
    perdure("health", exits=Exit.WARNING)
    perdure("health", "--store-only")


def beside(url: str, look: Callable[[], None]) -> None:
    """Look while a process owns all shards."""

    @in_loop(30)
    async def run() -> None:
        async with Cluster(url, [Ledger], cluster=TAKES, name="shop-1") as owner:
            await owner.send(owner.ref(Ledger, "x"), Opened("x"))
            await asyncio.to_thread(look)

    run()


def test_hosts_and_their_shards_are_listed(perdure: Command, postgres: str) -> None:
    perdure.path = postgres  # type: ignore[assignment]

    def look() -> None:
        found = perdure.document("hosts")
        [host] = found["hosts"]
        assert (host["name"], host["pid"]) == ("shop-1", os.getpid())
        assert (host["is_gone"], host["is_draining"]) == (False, False)
        assert (host["shards"], found["unowned"]) == (list(range(16)), [])
        said = perdure("hosts")
        assert "shop-1" in said
        assert "0-15" in said
        assert "without" not in said
        assert perdure.document("health")["status"] == "healthy"

    beside(postgres, look)
    assert perdure("hosts").endswith("without a live owner: 0-15 (of 16)\n")


def test_a_store_in_a_file_has_no_hosts(perdure: Command, tmp_path: Path) -> None:
    @in_loop(30)
    async def made() -> None:
        async with Runtime(f"sqlite+aiosqlite:///{tmp_path / 'a.db'}", [Ledger]):
            pass

    made()
    perdure.path = tmp_path / "a.db"
    perdure("hosts", exits=Exit.USAGE)
    assert "PostgreSQL" in perdure.err


def test_sending_says_that_the_message_waits_in_the_mail(perdure: Command, postgres: str) -> None:
    perdure.path = postgres  # type: ignore[assignment]
    words = ("send", "Ledger/w", "runtime-test.opened", '{"id": "w"}')
    more = ("--message-id", "m-1", "--timeout", "1.5", "--app", "tests.ops.cli.apps:ledgers")
    took_s: list[float] = []

    def send() -> None:
        began_s = time.monotonic()
        perdure(*words, *more, exits=Exit.FAILED)
        took_s.append(time.monotonic() - began_s)

    @in_loop(30)
    async def run() -> None:
        session = session_of(postgres)  # owns all, and takes nothing
        await session.open()
        await session.ask(session.owners.claim, 16)
        await asyncio.to_thread(send)
        await session.close()

    run()
    said = [line for line in perdure.err.splitlines() if "WARNING" not in line]  # of two versions
    first, *_, last = said
    assert re.fullmatch(r"no answer yet: Ledger/w is in shard \d+ of .+, pid \d+, last .+", first)
    assert re.search(r"it is in the mail of shard \d+ under message id 'm-1'", last)
    assert "perdure inbox, or perdure instances why Ledger/w" in last
    assert took_s[0] < 15
