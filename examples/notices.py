"""A file of notices, a line of JSON each, that holds every key once, whatever happens to us.

    with Notices(Path("declarations.notices")) as notices:
        notices.append("Declaration/case 1/4/0", {"case": "case 1", "notice": "reminder"})

What a worker needs that writes to a file: asked again for a key it has written, it does nothing; it
returns when the line is on the disk; and a line that was cut off by the end of a process or a full
disk is taken away, so that what is there is whole. One process at a time has the file, under a lock
that falls with it. Next to read: ``declarations.py``, whose worker writes here.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
from pathlib import Path
from typing import Any, Self

__all__ = ["Notices"]


class Notices:
    """The file, opened for appending. Used from any thread.

    Raises ``OSError`` if it cannot be written or another process has it, ``ValueError`` if a whole
    line in it is no notice.
    """

    def __init__(self, path: Path) -> None:
        is_new = not path.exists()
        self._file = path.open("a+b", buffering=0)
        self._lock = threading.Lock()
        try:
            self._lock_file()
            self._keys, self._size = self._read()
            if is_new:
                _sync_directory(path.parent)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self._keys)

    def append(self, key: str, notice: dict[str, Any]) -> None:
        """Write a line, and have it on the disk, unless the key has one."""
        line = json.dumps({"key": key, **notice}).encode() + b"\n"
        with self._lock:
            if key in self._keys:
                return
            try:
                if self._file.write(line) != len(line):
                    raise OSError(f"{self._file.name}: only a part of a line was written")
                os.fsync(self._file.fileno())
            except OSError:
                self._file.truncate(self._size)  # rather nothing of it than a part
                raise
            self._keys.add(key)
            self._size += len(line)

    def _lock_file(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OSError(f"another process writes to {self._file.name}") from None

    def _read(self) -> tuple[set[str], int]:
        """The keys that are there and where the next line begins. Takes away a torn last line."""
        keys: set[str] = set()
        size = 0
        self._file.seek(0)
        with open(self._file.fileno(), "rb", closefd=False) as lines:
            for number, line in enumerate(lines, 1):
                if not line.endswith(b"\n"):
                    break
                try:
                    keys.add(json.loads(line)["key"])
                except (ValueError, TypeError, KeyError):
                    raise ValueError(f"{self._file.name}, line {number}: no notice") from None
                size += len(line)
        self._file.truncate(size)
        os.fsync(self._file.fileno())  # a line that was written and not synced counts from now on
        return keys, size


def _sync_directory(directory: Path) -> None:
    """A new file's name is on the disk only after this."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
