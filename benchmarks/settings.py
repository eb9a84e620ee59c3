"""What the figures were measured on and with. Next to read: ``__main__.py``."""

from __future__ import annotations

import os
import platform
import sqlite3
from importlib.metadata import version
from pathlib import Path

from benchmarks.load import url_of
from perdure import SqlStore

__all__ = ["settings_of"]


def settings_of(
    directory: Path, rounds: int, quick: bool, server: str | None = None
) -> dict[str, object]:
    """Store, versions and machine."""
    if server is None:
        store = {"store": SqlStore(url_of(directory / "any.db")).name, "synchronous": "FULL"}
    else:
        from benchmarks.postgres import server_of

        store = {"store": server_of(server)}
    return {
        **store,
        "directory": str(directory),
        "perdure": version("perdure"),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "sqlite": sqlite3.sqlite_version,
        "sqlalchemy": version("sqlalchemy"),
        "cpus": os.cpu_count(),
        "rounds": rounds,
        "quick": quick,
    }
