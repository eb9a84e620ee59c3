"""The file that a URL names, and how large one is. Knows no database. Next to read: ``sql.py``."""

from __future__ import annotations

import os

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from perdure.errors import DefinitionError

__all__ = ["path_of", "size_of"]


def path_of(url: str) -> str:
    """The file's path. Raises DefinitionError."""
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise DefinitionError(f"{url!r} is no URL", remedy=_SUPPORTED) from error
    if parsed.drivername not in ("sqlite+aiosqlite", "sqlite") or parsed.query:
        raise DefinitionError(f"{url!r} is not supported", remedy=_SUPPORTED)
    path = parsed.database or ""
    if path in ("", ":memory:") or path.startswith("file:"):
        raise DefinitionError(
            f"{url!r} names no file that would outlive its connection", remedy=_SUPPORTED
        )
    return os.path.abspath(path)


def size_of(path: str) -> int:
    """The bytes of a file, 0 if there is none."""
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


_SUPPORTED = 'use "sqlite+aiosqlite:///path/to/file.db", or "memory://" to keep nothing'
