"""Who owns a database file: an operating-system lock on a file beside it.

The lock falls with its process, however that dies, and nothing stored is compared with a clock.
The text in the file tells people who holds it, and the next owner which epoch the last one had:
a database that knows only an earlier one was restored, or lost its log. It also tells operators
where the holder can be reached (``ops/control``). Knows nothing of SQLite.
Next to read: ``sql.py``, which takes the lock before it touches the database.
"""

from __future__ import annotations

import fcntl
import os
import re
import socket
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import quote, unquote_to_bytes

from perdure.errors import StoreLocked, StoreNotWritable

__all__ = ["FileLock", "Holder", "holder_of"]


@dataclass(frozen=True, slots=True)
class Holder:
    """Whom the lock file of a database names; it may have been killed since.

    ``control`` is the path of the socket it listens on for operators, None if it has none.
    """

    text: str
    pid: int | None
    host: str
    control: str | None

    @property
    def is_gone(self) -> bool:
        """It ran on this machine, and there is no process of its number any more."""
        if self.pid is None or self.host != socket.gethostname():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except OSError:  # it is somebody else's
            return False
        return False


def holder_of(database: str | os.PathLike[str]) -> Holder | None:
    """Whom the lock file beside this database names, None if nobody. Takes no lock.

    >>> holder_of("orders.db").pid
    4711
    """
    try:
        descriptor = os.open(f"{os.path.realpath(database)}.lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        told = _told(descriptor)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    found = _HOLDER.match(told.holder)
    if found is None:
        return None
    return Holder(told.holder, int(found[1]), found[2], told.control or None)


class FileLock:
    """An exclusive lock for one database file, under whatever path it is named.

    >>> lock = FileLock("orders.db")     # the lock file is orders.db.lock
    >>> lock.acquire()
    >>> lock.release()

    Excludes other processes and other locks within this one. Children neither inherit it when
    they execute another program nor keep it alive when they are forked.
    """

    def __init__(self, database: str | os.PathLike[str]) -> None:
        self._database = os.path.realpath(database)
        self.path = f"{self._database}.lock"
        self.last_epoch = 0
        """The last owner's, as far as the file tells; known while the lock is held."""
        self._control = self._since = ""
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock, now or not at all.

        Raises StoreLocked naming the holder, or StoreNotWritable.
        """
        self._refuse_two_names()
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise StoreNotWritable(
                f"cannot create {self.path!r}: {error.strerror}",
                remedy="the directory must exist and be writable",
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = _told(descriptor).holder
            os.close(descriptor)
            raise StoreLocked(
                f"{self.path!r} is held by {holder or 'another runtime'}",
                remedy="stop that runtime first, or give this one a database of its own",
            ) from error
        except OSError:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        _held.add(self)
        self.last_epoch = _told(descriptor).epoch
        self._control = ""
        self._since = datetime.now(UTC).isoformat(timespec="seconds")
        self.tell(self.last_epoch)

    def tell(self, epoch: int) -> None:
        """Write down who holds the lock, and under which epoch."""
        if self._descriptor is not None:
            self.last_epoch = epoch
            self._tell()

    def record(self, control: str) -> None:
        """Write down on which socket the holder listens for operators; "" for none any more."""
        self._control = control
        self._tell()

    def _tell(self) -> None:
        if self._descriptor is not None:
            text = f"pid {os.getpid()} on {socket.gethostname()} since {self._since}\n"
            text += f"{_EPOCH}{self.last_epoch}\n"
            if self._control:
                text += f"{_CONTROL}{quote(os.fsencode(self._control))}\n"
            _write(self._descriptor, text)

    def release(self) -> None:
        """Give the lock up, if it is held. The file stays: removing it would race with a taker."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            _held.discard(self)
            _write(descriptor, f"{_EPOCH}{self.last_epoch}\n" if self.last_epoch else "")
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)

    def drop_in_child(self) -> None:
        """Close a forked child's copy; the parent's lock is not touched."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _refuse_two_names(self) -> None:
        """SQLite looks for the log beside the name it is given: each name would have its own."""
        with suppress(OSError):
            names = os.stat(self._database).st_nlink
            if names > 1:
                raise StoreNotWritable(
                    f"{self._database!r} has {names} names (hard links)",
                    remedy="remove the others; to name a file twice, use a symbolic link",
                )


_EPOCH = "epoch "
_CONTROL = "control "
_HOLDER = re.compile(r"pid (\d{1,10}) on (\S+) since ", re.ASCII)
_BYTES_MAX = 2_000


class _Told(NamedTuple):
    """What the text in the file names; "" and 0 where it does not."""

    holder: str
    epoch: int
    control: str


def _told(descriptor: int) -> _Told:
    holder, epoch, control = "", 0, ""
    for line in os.pread(descriptor, _BYTES_MAX, 0).decode("utf-8", "replace").splitlines():
        number = line.removeprefix(_EPOCH)
        if number != line:
            if number.isascii() and number.isdigit():
                epoch = int(number)
        elif line.startswith(_CONTROL):
            control = os.fsdecode(unquote_to_bytes(line.removeprefix(_CONTROL)))
        else:
            holder = holder or line.strip()
    return _Told(holder, epoch, control)


def _write(descriptor: int, text: str) -> None:
    with suppress(OSError):  # a full disk: the lock is held without the text
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, text.encode(), 0)


_held: set[FileLock] = set()


def _drop_all_in_child() -> None:
    for lock in list(_held):
        lock.drop_in_child()
    _held.clear()


os.register_at_fork(after_in_child=_drop_all_in_child)
