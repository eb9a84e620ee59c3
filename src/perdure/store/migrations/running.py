"""Migrating over one connection, inside one transaction that its caller commits.

Synchronous, since Alembic is: SQLAlchemy lets it wait for asyncpg without it knowing.
Neither ``alembic.context`` nor ``alembic.op`` is used: they are one for the process, and there may
be several databases. Next to read: ``versions/v0001.py``; ``troubles.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from asyncpg import InterfaceError, PostgresError
from sqlalchemy import Connection, NullPool, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import create_async_engine

import perdure.failpoints as failpoints
from perdure.errors import DefinitionError, StoreError, StoreNotWritable
from perdure.failpoints import Point
from perdure.store.migrations.rights import lacking, require_look, require_room
from perdure.store.migrations.standing import Standing
from perdure.store.migrations.troubles import is_held_up, told
from perdure.store.postgres_address import Address
from perdure.store.postgres_connecting import connect
from perdure.store.postgres_schema import REVISION, VERSION_TABLE, metadata
from perdure.store.revisions import judge, read_revision_sql
from perdure.store.shards import SHARDS

__all__ = ["bring_up", "connected", "examine", "look", "note"]

CONNECT_S = 10.0

TABLE_LOCK_S = 2.0
"""So long a migration waits for a table, and with it whoever comes to it later."""

PAUSE_S = 1.0
"""Until the next try; so long they go on."""

SCRIPTS = Path(__file__).parent
"""Alembic's directory, with ``versions/``."""

T = TypeVar("T")


async def connected(address: Address, work: Callable[[Connection], T]) -> T:
    """Run this in a transaction of a new connection. Raises StoreError for what goes wrong."""
    engine = create_async_engine(
        address.url,
        poolclass=NullPool,
        async_creator=lambda: connect(
            address, timeout=CONNECT_S, server_settings={"application_name": "perdure db"}
        ),
    )
    try:
        async with engine.begin() as connection:
            return await connection.run_sync(work)
    except (OSError, SQLAlchemyError, PostgresError, InterfaceError) as error:
        raise told(error, address) from error
    finally:
        await engine.dispose()


def bring_up(
    connection: Connection, address: Address, shards: int | None, lock_wait_s: float
) -> Standing:
    """Create the schema and the tables where they are not, and migrate them to ``REVISION``.

    Whoever waits for a table holds up all that come to it later. So it waits for a moment only,
    lets go of what it has, and tries again, while no other may begin.
    """
    until_s = _now_s(connection) + lock_wait_s
    _take_lock(connection, address, lock_wait_s)
    _wait_for_locks(connection, min(TABLE_LOCK_S, lock_wait_s))
    while True:
        try:
            with connection.begin_nested():
                found = _migrate(connection, address, shards)
            break
        except DBAPIError as error:
            if not is_held_up(error) or _now_s(connection) + PAUSE_S >= until_s:
                raise
        connection.execute(text("SELECT pg_sleep(:pause_s)"), {"pause_s": PAUSE_S})
    failpoints.reach(Point.CREATING)
    now = look(connection, address)
    return Standing(now.database, now.schema, found.revision, now.revision, now.shards)


def _migrate(connection: Connection, address: Address, shards: int | None) -> Standing:
    """Where the tables stood before."""
    _make_schema(connection, address)
    found = _not_newer(look(connection, address), address)
    scripts = ScriptDirectory(SCRIPTS)
    context = _context(connection, address)
    missing = [*scripts.iterate_revisions(REVISION, found.revision or "base")]
    if missing:
        require_room(connection, address)
    for script in reversed(missing):
        script.module.upgrade(connection)
        context.stamp(scripts, script.revision)
    _fix_shards(connection, address, shards)
    return found


def look(connection: Connection, address: Address) -> Standing:
    """Where the tables stand; the search path is set to the schema."""
    _enter(connection, address)
    revision = shards = None
    if _has(connection, address, VERSION_TABLE):
        require_look(connection, address)
        revisions = connection.execute(text(read_revision_sql(address))).all()
        if len(revisions) > 1:
            raise StoreError(
                f"the table {VERSION_TABLE} has {len(revisions)} rows in place of one",
                remedy="restore the database from a backup, or delete the rows that are wrong",
            )
        revision = revisions[0][0] if revisions else None
    if revision is not None and _has(connection, address, "meta"):
        shards = connection.execute(
            text(f"SELECT shards FROM {address.quoted_schema}.meta WHERE id = 1")
        ).scalar()
    return Standing(address.shown, address.schema, revision, revision, shards)


def examine(connection: Connection, address: Address) -> Standing:
    """Make sure that a runtime could use the tables."""
    if _has(connection, address, VERSION_TABLE) and (missing := lacking(connection, address)):
        raise StoreNotWritable(
            f"the user of {address.shown} lacks rights in the schema {address.schema!r}",
            remedy=f"as its owner: {'; '.join(missing)}",
        )
    found = look(connection, address)
    judge(found.revision, address)
    where = f"the schema {address.schema!r} of {address.shown}"
    if differences := _differences(connection, address):
        raise StoreError(
            f"{where} is not what revision {found.revision} is: {'; '.join(differences)}",
            remedy="undo what was changed by hand, or restore the schema from a backup",
        )
    _check_shards(connection, address, found)
    return found


def _check_shards(connection: Connection, address: Address, found: Standing) -> None:
    """Their rows are all there, and no epoch that they had will be given out again."""
    epochs = f"{address.quoted_schema}.epochs"
    rows, newest, last = connection.execute(
        text(
            "SELECT count(*), coalesce(max(epoch), 0), coalesce("
            "(SELECT pg_sequence_last_value(CAST(:epochs AS regclass))), 0) FROM shards"
        ),
        {"epochs": epochs},
    ).one()
    if found.shards is None or rows != found.shards:
        raise StoreError(
            f"the schema {address.schema!r} of {address.shown} has {rows} rows of "
            f"{found.shards} in the table shards",
            remedy="restore it from a backup",
        )
    if last < newest:
        raise StoreError(
            f"the sequence {epochs} of {address.shown} is at {last}, but epoch {newest} was given "
            "out: the tables were restored or copied without it",
            remedy="stop every process, then, as the owner: "
            f"SELECT setval({_literal(epochs)}, {newest})",
        )


def note(connection: Connection, address: Address, revision: str, lock_wait_s: float) -> None:
    """Write a revision into the version table."""
    scripts = ScriptDirectory(SCRIPTS)
    known = [script.revision for script in scripts.walk_revisions()]
    if revision not in known:
        raise DefinitionError(
            f"there is no revision {revision!r}", remedy=f"give one of {', '.join(sorted(known))}"
        )
    _take_lock(connection, address, lock_wait_s)
    _not_newer(look(connection, address), address)
    if not _has(connection, address, "meta"):
        raise StoreError(
            f"the schema {address.schema!r} of {address.shown} has no tables of perdure",
            remedy="create them: perdure db upgrade",
        )
    _context(connection, address).stamp(scripts, revision)


def _not_newer(found: Standing, address: Address) -> Standing:
    if found.revision is not None and found.revision > REVISION:
        judge(found.revision, address)  # raises
    return found


def _take_lock(connection: Connection, address: Address, lock_wait_s: float) -> None:
    """One at a time, until the end of the transaction; whoever dies lets it go."""
    _wait_for_locks(connection, lock_wait_s)
    _set(connection, "statement_timeout", "0")
    _set(connection, "synchronous_commit", "on")
    connection.execute(
        text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"),
        {"name": f"perdure db upgrade {address.schema}"},
    )


def _now_s(connection: Connection) -> float:
    now = text("SELECT extract(epoch FROM clock_timestamp())")
    return float(connection.execute(now).scalar_one())


def _wait_for_locks(connection: Connection, seconds: float) -> None:
    _set(connection, "lock_timeout", f"{max(1, round(seconds * 1000))}ms")  # 0 were for ever


def _make_schema(connection: Connection, address: Address) -> None:
    encoding = connection.execute(text("SHOW server_encoding")).scalar()
    if encoding != "UTF8":
        raise StoreError(
            f"{address.shown} has the encoding {encoding}, which cannot keep every text",
            remedy="create the database with ENCODING 'UTF8'",
        )
    # IF NOT EXISTS would ask for the right to create one that is there.
    if not _count(
        connection,
        "SELECT count(*) FROM pg_catalog.pg_namespace WHERE nspname = :schema",
        schema=address.schema,
    ):
        require_room(connection, address)
        failpoints.reach(Point.CREATING)
        connection.exec_driver_sql(f"CREATE SCHEMA {address.quoted_schema}")


def _fix_shards(connection: Connection, address: Address, shards: int | None) -> None:
    """Note the number of shards for ever, with a row for each; or compare it."""
    stored = connection.execute(text("SELECT shards FROM meta")).scalar()
    if stored is None:
        stored = SHARDS if shards is None else shards
        values = {"shards": stored}
        connection.execute(text("INSERT INTO meta (id, shards) VALUES (1, :shards)"), values)
        connection.execute(
            text(
                "INSERT INTO shards (shard, epoch)"
                " SELECT n, 0 FROM generate_series(0, :shards - 1) AS n"
            ),
            values,
        )
    elif shards is not None and shards != stored:
        raise DefinitionError(
            f"the schema {address.schema!r} of {address.shown} has {stored} shards, which cannot"
            f" become {shards}: every instance lies in the shard that this number gave it",
            remedy=f"leave --shards away, or give {stored}; another number needs another schema",
        )


def _differences(connection: Connection, address: Address) -> list[str]:
    """What the tables have otherwise than this code declares, for people."""

    def is_ours(name: str | None, kind: str, _parents: object) -> bool:
        return kind != "table" or name in metadata.tables

    context = _context(connection, address, include_name=is_ours)
    return [_as_text(each) for each in compare_metadata(context, metadata)]


def _as_text(difference: object) -> str:
    """What Alembic says in tuples and lists, in a few words."""
    if isinstance(difference, list):
        return ", ".join(map(_as_text, difference))
    what, *about = difference if isinstance(difference, tuple) else (difference,)
    names = [getattr(each, "name", each) for each in about]
    return " ".join(str(each) for each in (what, *names) if each is not None and each != {})


def _context(connection: Connection, address: Address, **more: object) -> MigrationContext:
    return MigrationContext.configure(
        connection,
        opts={
            "version_table": VERSION_TABLE,
            "version_table_schema": address.schema,
            **more,
        },
    )


def _enter(connection: Connection, address: Address) -> None:
    _set(connection, "search_path", address.quoted_schema)


def _set(connection: Connection, name: str, value: str) -> None:
    connection.execute(
        text("SELECT set_config(:name, :value, true)"), {"name": name, "value": value}
    )


def _has(connection: Connection, address: Address, table: str) -> bool:
    found = _count(
        connection,
        "SELECT count(*) FROM pg_catalog.pg_class c"
        " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = :schema AND c.relname = :table",
        schema=address.schema,
        table=table,
    )
    return found > 0


def _literal(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _count(connection: Connection, sql: str, **values: str) -> int:
    return int(connection.execute(text(sql), values).scalar_one())
