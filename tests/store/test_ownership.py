"""One owner at a time: two processes on one file, a paused one, a race, and the fence behind it."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from perdure import Runtime, SqlStore
from perdure.errors import Fenced, RuntimeNotRunning, StoreLocked, StoreNotWritable
from perdure.store.lock import FileLock
from perdure.testing.sample_rows import head, inbox_row, outbox_row, snapshot, turn
from tests.runtime.support import add, items, open_ledger, quickly
from tests.sagas import Ledger
from tests.store.databases import file_store

RUNTIME = """
import asyncio, sys
from perdure import Runtime
from tests.sagas import Added, Ledger, Opened

async def own():
    async with Runtime("sqlite:///" + sys.argv[1], [Ledger]) as runtime:
        await runtime.publish(Opened("x"))
        print("up", flush=True)
        for n in range(10**9):
            await runtime.publish(Added("x", n))
            print(n, flush=True)

asyncio.run(own())
"""

RACER = """
import asyncio, sys
from perdure.errors import StoreLocked
from perdure.store.sql import SqlStore

async def race(path):
    store = SqlStore("sqlite+aiosqlite:///" + path)
    try:
        epoch = await store.open()
    except StoreLocked:
        print(0, flush=True)
        sys.stdin.readline()
        return
    print(epoch, flush=True)
    sys.stdin.readline()
    await store.close()

while path := sys.stdin.readline().strip():
    asyncio.run(race(path))
    print("ready", flush=True)
"""


@contextmanager
def process(source: str, *arguments: str):
    child = subprocess.Popen(
        [sys.executable, "-c", source, *arguments],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    with child:
        try:
            yield child
        finally:
            child.kill()


def line(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


def tell(child: subprocess.Popen[str], text: str = "") -> None:
    assert child.stdin is not None
    child.stdin.write(f"{text}\n")
    child.stdin.flush()


@pytest.mark.parametrize("is_paused", [False, True])
def test_a_second_runtime_waits_for_the_death_of_the_first_also_while_that_is_paused(
    tmp_path, is_paused
):
    async def scenario() -> None:
        url = f"sqlite:///{tmp_path}/store.db"
        with process(RUNTIME, f"{tmp_path}/store.db") as first:
            assert line(first) == "up"
            acknowledged = int(line(first))
            if is_paused:
                first.send_signal(signal.SIGSTOP)
                stopped = os.WSTOPPED | os.WNOWAIT
                await asyncio.to_thread(os.waitid, os.P_PID, first.pid, stopped)
            for _ in range(3):
                with pytest.raises(StoreLocked, match=f"pid {first.pid} on ") as caught:
                    await Runtime(url, [Ledger]).start()
                assert "epoch" not in caught.value.problem
            first.kill()  # also a stopped process dies of it
            first.wait()
            assert first.stdout is not None
            acknowledged += len(first.stdout.read().split("\n")[:-1])
            began = time.monotonic()
            async with Runtime(url, [Ledger]) as second:
                took_s = time.monotonic() - began
                done = await items(second, second.ref(Ledger, "x"))
                assert done[: acknowledged + 1] == [*range(acknowledged + 1)]
                epochs = await asyncio.to_thread(epochs_in, tmp_path / "store.db")
                await add(second, second.ref(Ledger, "x"), -1)
                assert epochs == [1]
            assert await asyncio.to_thread(epochs_in, tmp_path / "store.db") == [1, 2]
            assert took_s < 10  # nothing is waited for: there is no lease to run out

    asyncio.run(scenario())


def epochs_in(path: Path) -> list[int]:
    with sqlite3.connect(path) as connection:
        rows = connection.execute("SELECT DISTINCT epoch FROM journal ORDER BY position")
        found = [epoch for (epoch,) in rows]
    connection.close()
    return found


def test_of_two_processes_that_open_at_once_exactly_one_wins(tmp_path):
    rounds = 20
    with process(RACER) as one, process(RACER) as other:
        last: dict[str, int] = {}
        for number in range(rounds):
            path = f"{tmp_path}/{number % 5}.db"
            tell(one, path)
            tell(other, path)
            epochs = sorted([int(line(one)), int(line(other))])
            assert epochs == [0, last.get(path, 0) + 1]
            last[path] = epochs[1]
            for child in (one, other):
                tell(child)
                assert line(child) == "ready"


@pytest.fixture
def overtaken(tmp_path):
    """A store whose owner lost its lock file, and another that has taken the file since."""

    def taken() -> tuple[SqlStore, SqlStore]:
        return file_store(tmp_path), file_store(tmp_path)

    return taken


def test_a_commit_under_an_old_epoch_is_refused_whole_and_changes_nothing(tmp_path, overtaken):
    async def scenario() -> None:
        old, new = overtaken()
        epoch = await old.open()
        full = turn("Order/1", 1, epoch, outbox=(outbox_row("Order/1", 1),), head=head("Order/1"))
        assert list(await old.write([full])) == [None]
        os.unlink(f"{tmp_path}/store.db.lock")  # as if there were no lock
        assert await new.open() == epoch + 1
        assert list(await new.write([turn("Order/1", 2, epoch + 1)])) == [None]
        before = await everything(new)
        group = [
            turn("Order/1", 2, epoch), turn("Order/1", 3, epoch), turn("Order/2", 1, epoch),
            turn("Order/3", 1, epoch + 1), snapshot("Order/1", 1), inbox_row("Order/1", "m"),
        ]  # fmt: skip
        answers = await old.write(group)
        assert [type(answer) for answer in answers] == [Fenced] * len(group)
        assert all(answer is not None and answer.remedy for answer in answers)
        assert await everything(new) == before
        assert list(await new.write([turn("Order/1", 3, epoch + 1)])) == [None]
        await old.close()
        await new.close()

    asyncio.run(scenario())


def test_of_a_group_only_the_turns_of_an_old_epoch_are_refused(tmp_path):
    async def scenario() -> None:
        store = file_store(tmp_path)
        await store.open()
        await store.close()
        epoch = await store.open()
        answers = await store.write(
            [turn("Order/1", 1, epoch), turn("Order/2", 1, epoch - 1), turn("Order/1", 2, epoch)]
        )
        assert [type(answer) for answer in answers] == [type(None), Fenced, type(None)]
        assert len(await store.journal("Order/1")) == 2
        assert not await store.journal("Order/2")
        await store.close()

    asyncio.run(scenario())


async def everything(store: SqlStore) -> list[object]:
    loaded = await store.load(["Order/1", "Order/2", "Order/3"])
    return [*loaded, await store.outbox(), await store.heads(), await store.inbox()]


@quickly
async def test_a_runtime_that_was_overtaken_stops_and_says_so(tmp_path, caplog):
    url = f"sqlite:///{tmp_path}/store.db"
    first = Runtime(url, [Ledger])
    await first.start()
    ref = await open_ledger(first)
    os.unlink(f"{tmp_path}/store.db.lock")  # somebody tidied up
    async with Runtime(url, [Ledger]) as second:
        await add(second, second.ref(Ledger, "x"), 1)
        with pytest.raises(Fenced) as caught:
            await add(first, ref, 2)
        assert "stop this runtime" in str(caught.value)
        assert "another runtime has taken the store" in caplog.text
        with pytest.raises((Fenced, RuntimeNotRunning)):
            await add(first, ref, 3)
        assert first._stopping is not None  # it stops by itself
        await first.stop()
        await add(second, second.ref(Ledger, "x"), 4)
        assert await items(second, second.ref(Ledger, "x")) == [1, 4]


def test_a_file_with_two_names_is_refused_under_both(tmp_path):
    (tmp_path / "store.db").touch()
    os.link(tmp_path / "store.db", tmp_path / "other.db")
    for name in ("store.db", "other.db"):
        with pytest.raises(StoreNotWritable, match="2 names") as caught:
            FileLock(tmp_path / name).acquire()
        assert "symbolic link" in str(caught.value.remedy)
    (tmp_path / "other.db").unlink()
    lock = FileLock(tmp_path / "store.db")
    lock.acquire()
    lock.release()


def test_a_relative_path_is_the_same_file(tmp_path, monkeypatch):
    lock = FileLock(tmp_path / "store.db")
    lock.acquire()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreLocked):
        FileLock("./store.db").acquire()
    lock.release()


# The epoch never goes back


def copy(path: Path, to: Path) -> None:
    for suffix in ("", "-wal"):
        Path(f"{to}{suffix}").unlink(missing_ok=True)
        with suppress(FileNotFoundError):
            shutil.copy(f"{path}{suffix}", f"{to}{suffix}")


@quickly
async def test_an_older_copy_of_the_file_is_named_and_takes_no_epoch_twice(tmp_path, caplog):
    path = tmp_path / "store.db"
    for epoch in (1, 2, 3):
        store = file_store(tmp_path)
        assert await store.open() == epoch
        await store.write([turn("Order/1", epoch, epoch)])
        await store.close()
        if epoch == 1:
            copy(path, tmp_path / "backup")
    assert "older copy" not in caplog.text
    copy(tmp_path / "backup", path)
    store = file_store(tmp_path)
    assert await store.open() == 4
    assert "restored from an older copy" in caplog.text
    assert "at epoch 1, but its last owner was at epoch 3" in caplog.text
    assert list(await store.write([turn("Order/1", 2, 4)])) == [None]
    await store.close()


@quickly
async def test_a_log_that_was_deleted_is_named(tmp_path, caplog):
    store = file_store(tmp_path)
    await store.open()
    await store.close()
    store = file_store(tmp_path)
    epoch = await store.open()
    await store.write([turn("Order/1", 1, epoch)])
    lost = tmp_path / "lost"
    lost.mkdir()
    shutil.copy(tmp_path / "store.db", lost)
    shutil.copy(tmp_path / "store.db.lock", lost)
    await store.close()
    store = file_store(lost)
    assert await store.open() == epoch + 1
    assert "lost its write-ahead log" in caplog.text
    await store.close()


@quickly
async def test_a_new_file_beside_an_old_lock_file_is_named(tmp_path, caplog):
    store = file_store(tmp_path)
    await store.open()
    await store.close()
    (tmp_path / "store.db").unlink()
    store = file_store(tmp_path)
    assert await store.open() == 1
    assert "tells of one before it" in caplog.text
    await store.close()


@pytest.mark.parametrize("told", [2**22 - 1, 2**22, 2**63])
@quickly
async def test_a_lock_file_that_tells_of_an_impossible_epoch_is_not_believed(tmp_path, told):
    for epoch in (1, 2):
        store = file_store(tmp_path)
        assert await store.open() == epoch
        await store.close()
    (tmp_path / "store.db.lock").write_text(f"epoch {told}\n")
    store = file_store(tmp_path)
    assert await store.open() == 3
    assert list(await store.write([turn("Order/1", 1, 3)])) == [None]
    await store.close()


@pytest.mark.parametrize("damage", ["0", "-5", "9223372036854775807", "'x'", "2.5", "x'00'"])
@quickly
async def test_a_damaged_epoch_is_taken_from_the_journal(tmp_path, caplog, damage):
    for epoch in (1, 2):
        store = file_store(tmp_path)
        await store.open()
        await store.write([turn("Order/1", epoch, epoch, outbox=(outbox_row("Order/1", epoch),))])
        await store.close()
    connection = sqlite3.connect(tmp_path / "store.db")
    with connection:
        connection.execute(f"UPDATE meta SET epoch = {damage}")
    connection.close()
    (tmp_path / "store.db.lock").unlink()
    store = file_store(tmp_path)
    assert await store.open() == 3
    assert "epoch" in caplog.text
    await store.close()
