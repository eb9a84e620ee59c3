"""The disk as a power cut leaves it, rebuilt from a trace, and what of it must hold.

    none    nothing that was not synced survives
    torn    of what was not synced, each sector of 512 bytes survives with probability one half,
            and so does each change of a length

A disk that honours a flush is assumed, and that syncing a file keeps its name; as in
``docs/guarantees.md``. Next to read: ``tests/power_cut.py``.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from perdure.store import read_statements as queries
from perdure.store.sql_load import load_instances
from perdure.store.sql_open import open_schema
from perdure.store.sql_read import read_page
from perdure.store.sqlite_connection import prepare_writer
from tests.disk.tracing import Event

__all__ = ["Cut", "acknowledged", "cut", "examine"]

SECTOR = 512


@dataclass
class _File:
    synced: bytearray = field(default_factory=bytearray)
    later: list[Event] = field(default_factory=list)
    is_there: bool = False  # also after a cut
    is_gone: bool = False  # unlinked, but not for sure


def acknowledged(events: Sequence[Event]) -> list[str]:
    """The ids in the file of acknowledgements, which is written and never lost."""
    told = b"".join(event.data for event in events if event.file == "acks")
    return told.decode().split()


def cut(events: Sequence[Event], directory: Path, chance: random.Random | None) -> None:
    """Write the files as they are after these events and a cut; with ``chance``, torn."""
    files: dict[str, _File] = {}
    for event in events:
        file = files.setdefault(event.file, _File())
        if event.kind == "unlink":
            files[event.file] = _File(is_gone=True)
        elif event.kind == "create":
            file.is_gone = False
        elif event.kind == "sync":
            _apply(file.synced, file.later)
            file.later.clear()
            file.is_there = True
        else:
            file.later.append(event)
    for name, file in files.items():
        if name in ("acks",) or name.endswith((".lock", "-shm")):
            continue
        if chance is not None and (file.later or not file.is_there):
            file.is_there = file.is_there or (not file.is_gone and chance.random() < 0.5)
            _apply(file.synced, file.later, chance)
        if file.is_there:
            (directory / name).write_bytes(file.synced)


def _apply(
    content: bytearray, events: Sequence[Event], chance: random.Random | None = None
) -> None:
    for event in events:
        if event.kind == "truncate":
            if chance is None or chance.random() < 0.5:
                del content[event.at :]
                content.extend(bytes(event.at - len(content)))
            continue
        for start in range(0, len(event.data), SECTOR):
            if chance is None or chance.random() < 0.5:
                part = event.data[start : start + SECTOR]
                at = event.at + start
                content.extend(bytes(max(0, at - len(content))))
                content[at : at + len(part)] = part


@dataclass
class Cut:
    """What one image showed: how many acknowledged turns it lacks, and what is wrong in it."""

    lost: int
    wrong: str = ""


def examine(database: Path, told: Sequence[str]) -> Cut:
    """Open the image as a runtime does, and check every turn in it."""
    if not database.exists():
        return Cut(len(told))
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        try:
            prepare_writer(connection, "FULL")
            connection.execute("PRAGMA synchronous=OFF")  # an image is looked at once
            open_schema(connection)
            (sound,) = connection.execute("PRAGMA integrity_check").fetchone()
            if sound != "ok":
                return Cut(0, f"integrity_check: {sound}")
            return _turns(connection, told)
        except Exception as error:
            return Cut(0, f"{type(error).__name__}: {error}")


def _turns(connection: sqlite3.Connection, told: Sequence[str]) -> Cut:
    names = [name for (name,) in connection.execute("SELECT DISTINCT instance FROM journal")]
    found: set[str] = set()
    sends: set[tuple[str, int]] = set()
    for name in names:
        [loaded] = load_instances(connection, [name])
        if loaded.corrupt is not None:
            return Cut(0, str(loaded.corrupt))
        turns = read_page(connection, queries.JOURNAL_PAGE, [name, 0, 1_000_000])
        if [turn.sequence_nr for turn in turns] != [*range(1, len(turns) + 1)]:
            return Cut(0, f"a gap in {name}")
        found |= {turn.message_id for turn in turns}
        sends |= {(name, turn.sequence_nr) for turn in turns if "open" not in turn.message_id}
    jobs = read_page(connection, queries.OUTBOX_PAGE, [0, 1_000_000])
    if {(job.instance, job.sequence_nr) for job in jobs} != sends:
        return Cut(0, "journal and outbox do not agree")
    heads = read_page(connection, queries.heads_page(False, False), ["", 1_000_000])
    if {head.instance for head in heads} != set(names):
        return Cut(0, "journal and heads do not agree")
    return Cut(len([id for id in told if id not in found]))
