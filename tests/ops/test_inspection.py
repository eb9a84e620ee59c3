"""A look into the store of a runtime in another process, without any of its code."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from perdure import MemoryStore, Runtime, Settings, SqlStore, errors
from perdure.ops.inspection import Inspection
from perdure.ops.plain import to_plain
from perdure.store.schema import SCHEMA_VERSION
from perdure.testing.clock import SimulatedClock
from tests.runtime.support import quickly
from tests.sagas import Added, Ledger, Opened

HOSTILE_ID = 'a/b "c" \x1b[31m\u202e %_;--'
ROOT = Path(__file__).parents[2]


class Life:
    """The other process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.url = f"sqlite+aiosqlite:///{path}"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.ops.life", str(path)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.answer() == "ready"

    def answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def add(self, n: int) -> None:
        self.tell(str(n))
        assert self.answer() == "done"

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture(scope="module")
def life(tmp_path_factory) -> Iterator[Life]:
    """One that lives on while others look."""
    one = Life(tmp_path_factory.mktemp("life") / "orders.db")
    yield one
    one.kill()


async def all_of(many: Any) -> list[Any]:
    return [one async for one in many]


@quickly
async def test_instances_are_listed_without_their_code(life):
    async with Inspection(life.url) as look:
        assert await look.sagas() == [
            "Account", "nightly", "onboarding", "perdure.approvals", "trip",
        ]  # fmt: skip
        found = [
            (one.saga, one.correlation_id, one.status) for one in await all_of(look.instances())
        ]
        assert ("Account", HOSTILE_ID, "running") in found
        assert ("perdure.approvals", "a-1/boss", "running") in found
        accounts = await all_of(look.instances("Account"))
        assert [one.correlation_id for one in accounts] == ["a-1", HOSTILE_ID, "bad"]
        behind = await all_of(look.instances("Account", after="a-1"))
        assert [one.correlation_id for one in behind] == [HOSTILE_ID, "bad"]
        aside = accounts[2].quarantined
        assert aside is not None
        assert aside.startswith("failed: ValueError: below zero")
        assert await all_of(look.instances("Account", status="completed")) == []
        with pytest.raises(errors.DefinitionError, match="status"):
            await all_of(look.instances(status="sleeping"))
        assert await look.counts() == {
            "Account": {"running": 3},
            "nightly": {"running": 1},
            "onboarding": {"running": 1},
            "perdure.approvals": {"running": 1},
            "trip": {"running": 1},
        }


@quickly
async def test_an_instance_is_shown_without_its_code(life):
    async with Inspection(life.url) as look:
        shown = await look.show("Account", "a-1")
        assert shown.status == "running"
        assert shown.sequence_nr >= 6
        assert shown.state_nr == 4
        assert shown.turns_after == shown.sequence_nr - 4
        assert shown.state == {"$type": "ops-life.Account", "items": [0, 1, 2], "blob": "0x"}
        assert list(shown.deadlines) == ["pick"]
        assert shown.children == {"boss": "perdure.approvals/a-1/boss"}
        [job] = shown.jobs
        assert (job.type, job.queue, job.kind) == ("ops-life.Charge", "payments", "command")
        assert job.content == {"$type": "ops-life.Charge", "id": "a-1"}
        bad = await look.show("Account", "bad")
        assert bad.quarantine is not None
        assert (bad.quarantine.reason, bad.quarantine.held) == ("failed", 1)
        [held] = bad.inbox
        assert (held.reason, held.content) == (
            "held",
            {"$type": "ops-life.Added", "id": "bad", "n": -1},
        )
        assert json.loads(json.dumps(to_plain(shown)))["saga"] == "Account"
        hostile = await look.show("Account", HOSTILE_ID)
        assert hostile.jobs[0].content["id"] == HOSTILE_ID


@quickly
async def test_states_that_are_perdure_s_own_are_folded(life):
    async with Inspection(life.url) as look:
        trip = await look.show("trip", "a-1")
        assert trip.turns_after == 0
        assert trip.state["steps"] == {"flight": "completed", "hotel": "running"}
        assert trip.state["data"] == {"$type": "ops-life.Opened", "id": "a-1", "limit": "10.50"}
        walk = await look.show("onboarding", "a-1")
        assert walk.state["operations"]["event/first"]["awaits"] == "ops-life.Login"
        assert walk.state["operations"]["step/greet"]["value"] == "hello"
        boss = await look.show("perdure.approvals", "a-1/boss")
        assert boss.parent == "Account/a-1"
        assert boss.state["policy"]["who"] == {"people": ["ann"], "groups": ["finance"]}
        early = await look.state("trip", "a-1", at=1)
        assert early is not None
        assert early.state["steps"] == {"flight": "running"}
        account = await look.state("Account", "a-1", at=5)
        assert account is not None
        assert (account.sequence_nr, account.state) == (5, None)
        assert await look.state("trip", "nobody") is None


@quickly
async def test_why_instances_wait(life):
    async with Inspection(life.url) as look:

        async def said(saga: str, id: str) -> list[str]:
            return [one.text for one in await look.why(saga, id)]

        charge, boss, pick = await said("Account", "a-1")
        assert "waits, for the queue is paused since" in charge
        assert "because: the provider is down" in charge
        assert "by ann or anyone in finance" in boss
        assert pick.startswith('Deadline "pick" is due at')
        [hotel] = await said("trip", "a-1")
        assert hotel.startswith('Step "hotel", in queue "trip.hotel", is tried again (attempt 2)')
        assert "ConnectionError: the hotel is closed" in hotel
        [login] = await said("onboarding", "a-1")
        assert login.startswith('It waits for event "ops-life.Login" (as "first"), until')
        aside = await look.why("Account", "bad")
        assert aside[0].kind == "quarantined"
        assert aside[0].text.isprintable()
        _, parked = await said("Account", "nobody")
        assert "Message ops-life.Added (m-parked) is parked" in parked
        [run] = await said("nightly", "nightly")
        assert run.startswith("The next run is due at")
        assert await said("Nobody", "x") == [
            "There is no such instance, and no message waits for it."
        ]


@quickly
async def test_what_waits_and_what_is_to_come(life):
    async with Inspection(life.url) as look:
        queues = {one.name: one for one in await look.queues()}
        assert queues["payments"].is_paused
        assert queues["payments"].pause_reason == "the provider is down"
        assert queues["payments"].depth == 3
        assert queues["trip.hotel"].retrying == 1
        oldest_at = queues["payments"].oldest_at
        assert oldest_at is not None
        assert datetime.now(UTC) - oldest_at < timedelta(minutes=2)
        assert len(await all_of(look.jobs("payments"))) == 3
        assert len(await all_of(look.jobs())) == 4
        assert {one.reason for one in await all_of(look.inbox())} == {"held", "missing"}
        assert [one.correlation_id for one in await look.quarantined()] == ["bad"]
        assert await look.quarantined("trip") == []
        names = [one.name async for one in look.deadlines()]
        assert sorted(names) == ["event/first", "expires", "next", "pick", "pick", "pick"]
        [schedule] = await look.schedules()
        assert (schedule.name, schedule.made) == ("nightly", 0)
        assert await all_of(look.dead_letters()) == []


@quickly
async def test_history_is_shown_as_plain_data(life):
    async with Inspection(life.url) as look:
        first, second, *_ = await all_of(look.history("Account", "a-1"))
        assert first.message == {"$type": "ops-life.Opened", "id": "a-1", "limit": "10.50"}
        assert [one.type for one in first.sent] == ["ops-life.Charge", "perdure.ToInstance"]
        assert second.reply == {"items": 1}
        assert second.events == [{"$type": "ops-life.Added", "id": "a-1", "n": 0}]
        after = await all_of(look.history("Account", "a-1", after=4))
        assert after[0].sequence_nr == 5
        json.dumps(to_plain([first, second]))


@quickly
async def test_it_does_not_disturb_the_other_process(life):
    """It takes no lock, holds no read open, and sees what is committed meanwhile."""
    async with Inspection(life.url) as look:
        before = (await look.show("Account", "a-1")).sequence_nr
        life.add(20)
        assert (await look.show("Account", "a-1")).sequence_nr == before + 1
        with sqlite3.connect(life.path, isolation_level=None) as other:
            for _ in range(50):  # the other process may be about to write
                busy, log, folded = other.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
                if not busy and log == folded:
                    break
            assert (busy, log) == (0, folded), "a read that is open would hold up the checkpoint"
        other.close()
        assert look._reading.store._connections.writer is None  # type: ignore[attr-defined]
        with pytest.raises(errors.StoreUnavailable, match="reading only"):
            await look._reading.store.write([])
        life.add(21)


@quickly
async def test_a_state_of_ten_megabytes_is_cut_and_said_to_be(life):
    life.add(7)
    for n in range(8):
        life.add(n + 30)
    async with Inspection(life.url) as look:
        shown = await look.show("Account", "a-1")
        assert shown.state["blob"].endswith("… (10000000 bytes)")
        assert len(json.dumps(to_plain(shown))) < 20_000


def digest(path: Path) -> dict[str, str]:
    files = [path, path.with_name(f"{path.name}-wal")]
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def test_a_store_whose_runtime_was_killed(tmp_path):
    """Its write-ahead log is left behind, and with it what was committed last."""
    one = Life(tmp_path / "orders.db")
    one.add(20)
    one.kill()
    before = digest(one.path)

    async def look() -> Any:
        async with Inspection(one.url) as looking:
            entries = await all_of(looking.history("Account", "a-1"))
            return entries[-1].message["n"], (await looking.queues())[0].name

    for is_shm_there in (True, False):
        if not is_shm_there:
            Path(f"{one.path}-shm").unlink()
        assert asyncio.run(look()) == (20, "payments")
        assert digest(one.path) == before, "nothing was written"
    again = Life(one.path)  # and the next runtime has it
    again.kill()


# With the user's code


@quickly
async def test_with_the_user_s_code_states_are_folded(tmp_path):
    url, clock = f"sqlite+aiosqlite:///{tmp_path}/own.db", SimulatedClock()
    async with Runtime(url, [Ledger], Settings(snapshot_every=3), clock=clock) as runtime:
        ref = runtime.ref(Ledger, "x")
        await runtime.send(ref, Opened("x"))
        for n in (2, 3, 4):
            await runtime.send(ref, Added("x", n))
        async with Inspection(url, members=[Ledger], clock=clock) as look:
            shown = await look.show("Ledger", "x")
            assert shown.state == {"items": [2, 3, 4], "doubled": 6, "status": "open"}
            assert (shown.state_nr, shown.turns_after) == (4, 0)
            then = await look.state("Ledger", "x", at=2)
            assert then is not None
            assert then.state["items"] == [2]
            with pytest.raises(errors.DefinitionError, match="stands at turn 4"):
                await look.state("Ledger", "x", at=5)
        async with Inspection(url) as look:
            without = await look.show("Ledger", "x")
            assert without.state["$type" if "$type" in without.state else "items"] is not None
            assert (without.state_nr, without.turns_after) == (3, 1)
            assert await look.state("Ledger", "x", at=3) is not None


@quickly
async def test_an_open_store_is_looked_into_and_left_open():
    store = MemoryStore()
    async with Runtime(store, [Ledger]) as runtime:
        await runtime.send(runtime.ref(Ledger, "x"), Opened("x"))
        async with Inspection(store, members=[Ledger]) as look:
            assert (await look.show("Ledger", "x")).state["status"] == "open"
        assert await runtime.state(runtime.ref(Ledger, "x")) is not None


@quickly
async def test_what_cannot_be_decoded_is_said_to_be_so(tmp_path):
    """The rows are sound, and what is in them is not what it says."""
    path = f"{tmp_path}/own.db"
    url = f"sqlite+aiosqlite:///{path}"
    async with Runtime(url, [Ledger]) as runtime:
        ref = runtime.ref(Ledger, "x")
        await runtime.send(ref, Opened("x"))
        await runtime.send(ref, Added("x", 2))
        services = runtime._parts().services
        odd = services.journal._pack((1, 1, False, 5, ("odd", 1, b"\xc1"), 5, None, None, None,
                                      [("deep", 1, b"\x91" * 5_000)], [], {}, [], None, None,
                                      None))  # fmt: skip
        from perdure.core.commit import JournalRow, TurnRecord

        row = JournalRow("Ledger/x", 3, services.epoch, "odd", odd)
        assert await runtime.store.write([TurnRecord(row)]) == [None]
    async with Inspection(url) as look:
        *_, last = await all_of(look.history("Ledger", "x"))
        assert last.message["type"] == "odd"
        assert last.message["size"] == 1
        assert last.events[1]["size"] == 5_000
        assert json.dumps(to_plain(last))
        shown = await look.show("Ledger", "x")
        assert shown.problem
        assert shown.sequence_nr == 3
        reasons = await look.why("Ledger", "x")
        assert reasons[0].kind == "unreadable"
        assert (await look.show("Ledger", "x")).status == "running"


@quickly
async def test_a_damaged_journal_is_shown_as_far_as_it_goes(tmp_path):
    path = tmp_path / "own.db"
    url = f"sqlite+aiosqlite:///{path}"
    async with Runtime(url, [Ledger]) as runtime:
        ref = runtime.ref(Ledger, "x")
        await runtime.send(ref, Opened("x"))
        await runtime.send(ref, Added("x", 2))
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE journal SET body = x'00' WHERE sequence_nr = 1")
    connection.close()
    async with Inspection(url) as look:
        shown = await look.show("Ledger", "x")
        assert "journal row 1 fails its checksum" in shown.problem
        assert (shown.status, shown.sequence_nr) == ("running", 2)
        assert [one.correlation_id for one in await all_of(look.instances())] == ["x"]
        with pytest.raises(errors.CorruptRecord):
            await all_of(look.history("Ledger", "x"))


# What cannot be opened


async def refused(url: str) -> errors.PerdureError:
    look = Inspection(url)
    with pytest.raises(errors.PerdureError) as caught:
        async with look:
            pass
    assert caught.value.remedy
    return caught.value


@quickly
async def test_what_is_no_store_is_refused_clearly(tmp_path):
    assert "there is no file" in str(await refused(f"sqlite:///{tmp_path}/none.db"))
    assert "is a directory" in str(await refused(f"sqlite:///{tmp_path}"))
    (tmp_path / "text.db").write_text("something else\n" * 500)
    assert isinstance(await refused(f"sqlite:///{tmp_path}/text.db"), errors.NotADatabase)
    (tmp_path / "empty.db").touch()
    assert isinstance(await refused(f"sqlite:///{tmp_path}/empty.db"), errors.NotADatabase)
    with sqlite3.connect(tmp_path / "other.db") as other:
        other.execute("CREATE TABLE theirs (x)")
    other.close()
    assert isinstance(await refused(f"sqlite:///{tmp_path}/other.db"), errors.NotADatabase)
    assert sorted(os.listdir(tmp_path)) == ["empty.db", "other.db", "text.db"]
    with pytest.raises(errors.DefinitionError):
        Inspection("memory://")
    with pytest.raises(errors.DefinitionError):
        Inspection(f"sqlite:///{tmp_path}/x.db", members=[object()])  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("version", "error"),
    [(SCHEMA_VERSION + 1, errors.SchemaTooNew), (SCHEMA_VERSION - 1, errors.SchemaTooOld)],
)
def test_a_store_of_another_version(tmp_path, version, error):
    path = tmp_path / "own.db"

    async def scenario() -> None:
        store = SqlStore(f"sqlite:///{path}")
        await store.open()
        await store.close()
        with sqlite3.connect(path) as connection:
            connection.execute(f"UPDATE meta SET schema_version = {version}")
        connection.close()
        assert isinstance(await refused(f"sqlite:///{path}"), error)

    asyncio.run(scenario())


AS_NOBODY = """
import asyncio, os, sys
import perdure.store.sql  # as long as it may be read
from perdure.ops.inspection import Inspection
os.setgid(65534); os.setuid(65534)
async def look():
    try:
        async with Inspection(f"sqlite:///{sys.argv[1]}") as looking:
            print("saw", await looking.sagas())
    except Exception as error:
        print(type(error).__name__, error)
asyncio.run(look())
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize(
    ("file_mode", "directory_mode", "says"),
    [
        (0o644, 0o755, "SQLite needs the files"),
        (0o600, 0o755, "may not be read by this user"),
        (0o644, 0o777, "saw ['Ledger']"),
    ],
)
def test_a_user_without_permission_is_told_what_to_do(file_mode, directory_mode, says):
    with tempfile.TemporaryDirectory() as directory:  # pytest's own are for one user only
        done = looked_at_by_nobody(Path(directory), file_mode, directory_mode)
    assert says in done.stdout, done


def looked_at_by_nobody(
    path: Path, file_mode: int, directory_mode: int
) -> subprocess.CompletedProcess[str]:

    async def scenario() -> None:
        async with Runtime(f"sqlite:///{path}/own.db", [Ledger]) as runtime:
            await runtime.send(runtime.ref(Ledger, "x"), Opened("x"))

    asyncio.run(scenario())
    path.chmod(directory_mode)
    (path / "own.db").chmod(file_mode)
    return subprocess.run(
        [sys.executable, "-c", AS_NOBODY, f"{path}/own.db"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
