"""Where a control socket is bound, and who may connect: nobody but its own user, and root.

Beside the database if that can be: ``orders.db.control``. Else, where the path is too long for a
socket's address or the file system has no sockets, in a directory of the user's own below the
temporary one. What a killed process has left there is replaced: whoever binds holds the store's
lock. Knows no protocol. Next to read: ``server.py``.
"""

from __future__ import annotations

import hashlib
import os
import socket
import stat
import struct
import tempfile
from contextlib import suppress

__all__ = ["Place", "bound", "peer_uid"]

PATH_BYTES_MAX = 103
"""The shortest ``sun_path`` of the systems we know (macOS: 104 with its NUL; Linux: 108)."""


class Place:
    """A bound socket that does not listen yet, and its path."""

    def __init__(self, path: str, listener: socket.socket) -> None:
        self.path = path
        self.listener = listener
        self.made = ""
        """A directory that was made for it alone."""
        self._inode = _inode(path)
        _bound.add(self)

    def leave(self) -> None:
        """Take the path away, if it is still ours."""
        _bound.discard(self)
        self.listener.close()
        if self._inode is not None and _inode(self.path) == self._inode:
            with suppress(OSError):
                os.unlink(self.path)
        if self.made:
            with suppress(OSError):
                os.rmdir(self.made)

    def drop_in_child(self) -> None:
        """Close a forked child's copy: who connects is to reach the parent, or nobody."""
        self.listener.close()


def bound(database: str) -> Place:
    """A socket for the holder of this database. Raises ``OSError`` where there can be none."""
    beside = f"{os.path.realpath(database)}.control"
    try:
        return _bind(beside)
    except OSError:
        directory, made = _own_directory()
        name = hashlib.sha256(os.fsencode(beside)).hexdigest()[:16]
        place = _bind(os.path.join(directory, name))
        place.made = made
        return place


def _bind(path: str) -> Place:
    if len(os.fsencode(path)) > PATH_BYTES_MAX:
        raise OSError(f"{path!r} is too long for a socket")
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise OSError(f"{path!r} is no socket: it is left alone")
        os.unlink(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.setblocking(False)
        listener.bind(path)
        os.chmod(path, 0o600)  # before it listens: nobody can have connected
    except BaseException:
        listener.close()
        raise
    return Place(path, listener)


def _own_directory() -> tuple[str, str]:
    """A directory that nobody else can write into or look into; again, if it was made for this."""
    path = os.path.join(tempfile.gettempdir(), f"perdure-{os.geteuid()}")
    with suppress(FileExistsError):
        os.mkdir(path, 0o700)
    found = os.lstat(path)
    if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077:
        return path, ""
    made = tempfile.mkdtemp(prefix="perdure-")
    return made, made


def _inode(path: str) -> tuple[int, int] | None:
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def peer_uid(connection: socket.socket) -> int | None:
    """The user at the other end, as the kernel knows it; None where it does not say."""
    if hasattr(socket, "SO_PEERCRED"):
        size = struct.calcsize("3i")
        told = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
        uid: int = struct.unpack("3i", told)[1]
        return uid
    return None


_bound: set[Place] = set()


def _drop_all_in_child() -> None:
    for place in list(_bound):
        place.drop_in_child()
    _bound.clear()


os.register_at_fork(after_in_child=_drop_all_in_child)
