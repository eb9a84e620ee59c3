"""Ownership of a file: the lock names its holder and falls with its process."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from perdure.errors import StoreLocked, StoreNotWritable
from perdure.store.lock import FileLock
from perdure.testing.sample_rows import turn
from tests.store.databases import file_store

OWNER = """
import asyncio, sys
from perdure.store.sql import SqlStore
from perdure.testing.sample_rows import turn

async def own():
    store = SqlStore("sqlite+aiosqlite:///" + sys.argv[1])
    epoch = await store.open()
    assert list(await store.write([turn("Order/1", 1, epoch)])) == [None]
    print(epoch, flush=True)
    sys.stdin.read()

asyncio.run(own())
"""


@contextmanager
def owning_process(directory: Path):
    """Another process that owns the store and has written one turn."""
    child = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(directory / "store.db")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == b"1\n"
            yield child
        finally:
            child.kill()


def test_a_second_process_is_refused_and_told_whom_to_stop(tmp_path):
    async def scenario() -> None:
        with owning_process(tmp_path) as child:
            store = file_store(tmp_path)
            with pytest.raises(StoreLocked, match=f"pid {child.pid} on ") as caught:
                await store.open()
            assert caught.value.remedy
            await store.close()

    asyncio.run(scenario())


def test_the_lock_falls_with_a_killed_process(tmp_path):
    async def scenario() -> None:
        with owning_process(tmp_path) as child:
            child.send_signal(signal.SIGKILL)
            child.wait()
            store = file_store(tmp_path)
            epoch = await store.open()
            assert epoch == 2
            [loaded] = await store.load(["Order/1"])
            assert loaded.turns == [turn("Order/1", 1, 1).row]
            await store.close()

    asyncio.run(scenario())


def test_two_stores_in_one_process(tmp_path):
    async def scenario() -> None:
        first, second = file_store(tmp_path), file_store(tmp_path)
        await first.open()
        with pytest.raises(StoreLocked, match=f"pid {os.getpid()}"):
            await second.open()
        await second.close()
        with pytest.raises(StoreLocked):
            await second.open()
        await first.close()
        assert await second.open() == 2
        await second.close()

    asyncio.run(scenario())


def test_every_path_to_a_file_is_one_lock(tmp_path):
    real, linked = tmp_path / "real", tmp_path / "linked"
    real.mkdir()
    linked.symlink_to(real)
    (tmp_path / "link.db").symlink_to(real / "store.db")
    lock = FileLock(real / "store.db")
    lock.acquire()
    for other in (linked / "store.db", tmp_path / "link.db", real / ".." / "real" / "store.db"):
        with pytest.raises(StoreLocked):
            FileLock(other).acquire()
    lock.release()
    lock.release()


def test_a_forked_child_does_not_keep_the_lock_of_a_dead_parent(tmp_path):
    lives, telling = os.pipe()
    waiting, letting_go = os.pipe()
    owner = os.fork()
    if owner == 0:
        os.close(letting_go)
        FileLock(tmp_path / "store.db").acquire()
        if os.fork() == 0:
            os.write(telling, b"!")
            os.read(waiting, 1)  # lives until the test lets go of the pipe
        else:
            os.read(lives, 1)
            os.write(telling, b"!")
            os.kill(os.getpid(), signal.SIGKILL)
        os._exit(0)
    try:
        os.waitpid(owner, 0)
        assert os.read(lives, 1) == b"!"
        lock = FileLock(tmp_path / "store.db")
        lock.acquire()
        lock.release()
    finally:
        for descriptor in (lives, telling, waiting, letting_go):
            os.close(descriptor)


def test_releasing_does_not_wait_for_forked_children(tmp_path):
    lock = FileLock(tmp_path / "store.db")
    lock.acquire()
    waiting, letting_go = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(letting_go)
        os.read(waiting, 1)
        os._exit(0)
    try:
        lock.release()
        again = FileLock(tmp_path / "store.db")
        again.acquire()
        again.release()
    finally:
        os.close(waiting)
        os.close(letting_go)
        os.waitpid(child, 0)


def test_a_forked_child_does_not_release_the_lock(tmp_path):
    lock = FileLock(tmp_path / "store.db")
    lock.acquire()
    child = os.fork()
    if child == 0:
        lock.release()
        os._exit(0)
    os.waitpid(child, 0)
    with pytest.raises(StoreLocked, match=f"pid {os.getpid()}"):
        FileLock(tmp_path / "store.db").acquire()
    lock.release()


@pytest.mark.parametrize("missing", ["no/such/directory", "file"])
def test_nowhere_to_put_it(tmp_path, missing):
    (tmp_path / "file").write_text("not a directory")
    with pytest.raises(StoreNotWritable) as caught:
        FileLock(tmp_path / missing / "store.db").acquire()
    assert caught.value.remedy
