"""Who owns a database file: an operating-system lock on a file beside it.

The lock falls with its process, however that dies, and nothing stored is compared with a clock.
The text in the file tells people who holds it, and the next owner which epoch the last one had:
a database that knows only an earlier one was restored, or lost its log. Knows nothing of SQLite.
Next to read: ``sql.py``, which takes the lock before it touches the database.
"""

from __future__ import annotations

import fcntl
import os
import socket
from contextlib import suppress
from datetime import UTC, datetime

from perdure.errors import StoreLocked, StoreNotWritable

__all__ = ["FileLock"]


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
            holder, _ = _told(descriptor)
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
        _, self.last_epoch = _told(descriptor)
        self.tell(self.last_epoch)

    def tell(self, epoch: int) -> None:
        """Write down who holds the lock, and under which epoch."""
        if self._descriptor is not None:
            started = datetime.now(UTC).isoformat(timespec="seconds")
            holder = f"pid {os.getpid()} on {socket.gethostname()} since {started}\n"
            self.last_epoch = epoch
            _write(self._descriptor, f"{holder}{_EPOCH}{epoch}\n")

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


def _told(descriptor: int) -> tuple[str, int]:
    """The holder and the epoch that the text in the file names; "" and 0 where it does not."""
    holder, epoch = "", 0
    for line in os.pread(descriptor, 500, 0).decode("utf-8", "replace").splitlines():
        number = line.removeprefix(_EPOCH)
        if number == line:
            holder = holder or line.strip()
        elif number.isascii() and number.isdigit():
            epoch = int(number)
    return holder, epoch


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
