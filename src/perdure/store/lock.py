"""Who owns a database file: an operating-system lock on a file beside it.

The lock falls with its process, however that dies, and nothing stored is compared with a clock.
The text in the file only tells people who holds it. Knows nothing of SQLite.
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
        self.path = f"{os.path.realpath(database)}.lock"
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock, now or not at all.

        Raises StoreLocked naming the holder, or StoreNotWritable.
        """
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
            holder = os.pread(descriptor, 500, 0).decode("utf-8", "replace").strip()
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
        started = datetime.now(UTC).isoformat(timespec="seconds")
        holder = f"pid {os.getpid()} on {socket.gethostname()} since {started}\n"
        with suppress(OSError):  # a full disk: the text is for people, the lock is held without it
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, holder.encode(), 0)

    def release(self) -> None:
        """Give the lock up, if it is held. The file stays: removing it would race with a taker."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            _held.discard(self)
            os.ftruncate(descriptor, 0)
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)

    def drop_in_child(self) -> None:
        """Close a forked child's copy; the parent's lock is not touched."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


_held: set[FileLock] = set()


def _drop_all_in_child() -> None:
    for lock in list(_held):
        lock.drop_in_child()
    _held.clear()


os.register_at_fork(after_in_child=_drop_all_in_child)
