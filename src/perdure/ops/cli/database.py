"""``perdure db``: the tables in PostgreSQL, and which revision they are at.

A file of SQLite needs none of it: whoever opens it for writing creates and upgrades it. Upgrading
one here does just that. Next to read: ``store/migrations/``.
"""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Annotated, Any

import typer

from perdure.errors import DefinitionError
from perdure.ops.cli.options import JsonOption, StoreOption
from perdure.ops.cli.output import Output
from perdure.ops.cli.targets import path_named
from perdure.store import migrations
from perdure.store.postgres_address import is_postgres
from perdure.store.postgres_schema import REVISION
from perdure.store.schema import SCHEMA_VERSION
from perdure.store.sql import SqlStore

__all__ = ["check", "current", "stamp", "upgrade"]

WaitOption = Annotated[
    float,
    typer.Option("--timeout", min=0.1, max=86400, help="Seconds to wait for who holds a lock."),
]


async def upgrade(
    shards: Annotated[
        int | None,
        typer.Option(
            "--shards",
            min=1,
            help="Into how many parts instances fall that different processes may own. Said when "
            "the tables are created, 16 if not; it never changes.",
        ),
    ] = None,
    within_s: WaitOption = migrations.LOCK_WAIT_S,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Create the tables, or bring them to the revision that this perdure needs.

    Safe to repeat, to do from several pods at once, and to kill: it is one transaction.
    """
    if (path := _file_of(store)) is not None:
        await _upgrade_file(path, shards, as_json)
        return
    done = await migrations.upgrade(_named(store), shards=shards, lock_wait_s=within_s)
    came = "is created" if done.came_from is None else f"was at {done.came_from}"
    if done.came_from == done.revision:
        came = "was there already"
    text = f"schema {done.schema}: at revision {done.revision}, {done.shards} shards; it {came}"
    Output(as_json).line(text, _document(done))


async def current(store: StoreOption = None, as_json: JsonOption = False) -> None:
    """Say which revision the tables are at, and which one this perdure needs."""
    if (path := _file_of(store)) is not None:
        await _look_at_file(path)
        Output(as_json).sheet(_of_file(path))
        return
    found = await migrations.current(_named(store))
    document = _document(found)
    del document["came_from"]
    sheet = {**document, "revision": found.revision or "none: no tables of perdure are there"}
    Output(as_json).sheet(sheet, document)


async def check(store: StoreOption = None, as_json: JsonOption = False) -> None:
    """Exit with 0 if a runtime of this perdure could use the store as this user, with 5 if not.

    Compares the tables with those of the revision, and asks for every right that is needed.
    """
    if (path := _file_of(store)) is not None:
        await _look_at_file(path)
        Output(as_json).line(f"schema version {SCHEMA_VERSION}: ready", _of_file(path))
        return
    found = await migrations.check(_named(store))
    text = f"schema {found.schema}: at revision {found.revision}, {found.shards} shards: ready"
    Output(as_json).line(text, _document(found))


async def stamp(
    revision: Annotated[
        str, typer.Argument(help="The revision that the tables are at.")
    ] = REVISION,
    within_s: WaitOption = migrations.LOCK_WAIT_S,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Note which revision the tables are at, without migrating: they came by another way."""
    if _file_of(store) is not None:
        raise DefinitionError(
            "a file of SQLite knows its own version",
            remedy="open it: whoever does so for writing upgrades it",
        )
    await migrations.stamp(_named(store), revision, lock_wait_s=within_s)
    found = await migrations.current(_named(store))
    Output(as_json).line(f"schema {found.schema}: at revision {revision}", _document(found))


def _named(store: str | None) -> str:
    if store is None:
        raise DefinitionError(
            "no store is named", remedy="give --store, or set PERDURE_STORE in the environment"
        )
    return store


def _file_of(store: str | None) -> str | None:
    """The path of a file of SQLite; None for PostgreSQL. Raises DefinitionError."""
    named = _named(store)
    return None if is_postgres(named) else path_named(named)


async def _upgrade_file(path: str, shards: int | None, as_json: bool) -> None:
    if shards is not None:
        raise DefinitionError(
            "a file of SQLite has no shards", remedy="leave --shards away: one process owns it"
        )
    was_there = _is_file(path)
    store = SqlStore(f"sqlite+aiosqlite:///{path}")
    await store.open()
    await store.close()
    came = "was there, and is upgraded where it needed to be" if was_there else "is created"
    text = f"SQLite creates and upgrades itself: schema version {SCHEMA_VERSION}; the file {came}"
    Output(as_json).line(text, _of_file(path))


async def _look_at_file(path: str) -> None:
    """Raises StoreError unless this code can use the file."""
    store = SqlStore(f"sqlite+aiosqlite:///{path}", read_only=True)
    await store.open()
    await store.close()


def _is_file(path: str) -> bool:
    return os.path.isfile(path)


def _of_file(path: str) -> dict[str, Any]:
    return {"database": path, "schema_version": SCHEMA_VERSION}


def _document(standing: migrations.Standing) -> dict[str, Any]:
    return {**asdict(standing), "needs": REVISION}
