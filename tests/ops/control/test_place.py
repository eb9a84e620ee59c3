"""Where a control socket is bound: beside its database, or where nobody else can write."""

from __future__ import annotations

import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from perdure.ops.control.place import bound, peer_uid
from perdure.store.lock import FileLock, Holder, holder_of


def found_holder(database: Path) -> Holder:
    holder = holder_of(database)
    assert holder is not None
    return holder


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The system's directory for such things; pytest's own paths are too long for a socket."""
    with tempfile.TemporaryDirectory() as directory:
        monkeypatch.setattr("tempfile.tempdir", directory)
        yield Path(directory)
        left = [path.name for path in Path(directory).rglob("*") if not path.is_dir()]
        assert left == []


def test_a_path_that_is_too_long_moves_to_a_directory_of_its_own(tmp_path, temporary):
    deep = tmp_path / ("d" * 120)
    deep.mkdir()
    found = bound(str(deep / "store.db"))
    directory = Path(found.path).parent
    assert directory.parent == temporary
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert stat.S_IMODE(os.stat(found.path).st_mode) == 0o600
    found.leave()
    assert not os.path.exists(found.path)
    other = bound(str(deep / "other.db"))
    assert Path(other.path).parent == directory
    assert other.path != found.path
    other.leave()


def test_a_directory_others_can_use_is_not_used(tmp_path, temporary):
    taken = temporary / f"perdure-{os.geteuid()}"
    taken.mkdir()
    taken.chmod(0o777)
    (tmp_path / "store.db.control").write_text("somebody's file")
    found = bound(str(tmp_path / "store.db"))
    assert not found.path.startswith(f"{taken}/")
    assert stat.S_IMODE(os.stat(Path(found.path).parent).st_mode) == 0o700
    found.leave()
    assert [path.name for path in temporary.iterdir()] == [taken.name]
    assert (tmp_path / "store.db.control").read_text() == "somebody's file"


def test_a_link_is_not_followed(tmp_path, temporary):
    (tmp_path / "store.db.control").symlink_to(tmp_path / "elsewhere")
    found = bound(str(tmp_path / "store.db"))
    assert Path(found.path).parent.parent == temporary
    found.leave()
    assert not (tmp_path / "elsewhere").exists()


def test_what_a_killed_process_left_is_replaced_and_a_successors_is_left_alone(tmp_path, temporary):
    first = bound(str(tmp_path / "store.db"))
    second = bound(str(tmp_path / "store.db"))
    assert first.path == second.path
    first.leave()
    assert os.path.exists(second.path)
    second.leave()
    assert not os.path.exists(second.path)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_keeps_nobody_waiting(tmp_path, temporary):
    found = bound(str(tmp_path / "store.db"))
    found.listener.listen()
    child = os.fork()
    if not child:
        os._exit(found.listener.fileno() == -1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    assert found.listener.fileno() != -1
    found.leave()


def test_the_kernel_says_who_is_at_the_other_end():
    one, other = socket.socketpair()
    with one, other:
        assert peer_uid(one) in (None, os.geteuid())


def test_the_lock_file_names_the_socket_under_any_name(tmp_path):
    database = tmp_path / "ü \n%41.db"
    lock = FileLock(database)
    lock.acquire()
    lock.tell(7)
    lock.record(f"{database}.control")
    holder = holder_of(database)
    assert holder is not None
    assert (holder.pid, holder.control) == (os.getpid(), f"{database}.control")
    lock.tell(8)
    assert holder_of(database) == holder
    lock.record("")
    assert found_holder(database).control is None
    lock.release()
    assert holder_of(database) is None
    lock.acquire()
    assert lock.last_epoch == 8
    assert found_holder(database).control is None
    lock.release()


@pytest.mark.parametrize("text", ["", "\n", "epoch 3\n", "pid x on y since z\n", "\xff" * 3000])
def test_a_lock_file_that_names_nobody(tmp_path, text):
    (tmp_path / "store.db.lock").write_bytes(text.encode("latin-1"))
    assert holder_of(tmp_path / "store.db") is None


def test_no_lock_file_no_holder(tmp_path):
    assert holder_of(tmp_path / "store.db") is None
    assert os.listdir(tmp_path) == []


def test_a_holder_on_another_machine_is_not_known_to_be_gone(tmp_path):
    (tmp_path / "store.db.lock").write_text("pid 4194305 on elsewhere since 2026\nepoch 3\n")
    holder = holder_of(tmp_path / "store.db")
    assert holder is not None
    assert not holder.is_gone
    host = socket.gethostname()
    (tmp_path / "store.db.lock").write_text(f"pid 4194305 on {host} since 2026\nepoch 3\n")
    assert found_holder(tmp_path / "store.db").is_gone
