"""What docs/postgresql.md has somebody type, typed: it is enough, and no more than is needed."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from perdure.errors import StoreError, StoreNotWritable
from perdure.store.migrations import check, upgrade
from perdure.store.migrations.rights import needed_of
from perdure.store.postgres_schema import VERSION_TABLE, metadata
from perdure.store.urls import store_to_look_at
from tests import warm
from tests.servers.databases import execute
from tests.servers.postgres import Server

GUIDE = Path(__file__).parent.parent / "docs" / "postgresql.md"
PASSWORDS = {"owner": "a long secret", "app": "another long secret"}


def blocks(language: str) -> list[str]:
    """What stands in the guide's fences of one language, "" for what a program prints."""
    found = re.findall(r"^```(\w*)\n(.*?)^```", GUIDE.read_text(), re.DOTALL | re.MULTILINE)
    return [text for of, text in found if of == language]


def statements(sql: str) -> list[str]:
    bare = re.sub(r"--.*", "", sql)
    return [each.strip() for each in bare.split(";") if each.strip()]


class Shop:
    """The database of the guide, under a name of its own."""

    def __init__(self, server_url: str) -> None:
        self._server = make_url(server_url)
        self.name = f"shop_{secrets.token_hex(4)}"

    def url(self, who: str) -> str:
        """Of the guide's owner, app or reader; of who may do everything: ""."""
        url = self._server.set(database=self.name)
        if who:
            url = url.set(username=f"{self.name}_{who}", password=PASSWORDS.get(who, "secret"))
        return url.render_as_string(False)

    def run(self, who: str, sql: str) -> None:
        """Run a block of the guide."""
        for each in statements(re.sub(r"\bshop", self.name, sql)):
            execute(
                self._server.render_as_string(False) if who == "server" else self.url(who), each
            )

    def drop(self) -> None:
        """Take all of it away again."""
        self.run("server", "DROP DATABASE IF EXISTS shop WITH (FORCE)")
        for who in ("app", "reader", "owner"):
            self.run("server", f"DROP ROLE IF EXISTS shop_{who}")


@pytest.fixture
def shop(postgres_server) -> Iterator[Shop]:
    """Made as the guide says: the roles, the database, the tables, the rights."""
    made = Shop(postgres_server.url("postgres"))
    creating, granting, reading, *_ = blocks("sql")
    try:
        made.run("server", creating)
        asyncio.run(upgrade(made.url("owner")))
        made.run("owner", granting)
        made.run("server", "CREATE ROLE shop_reader LOGIN PASSWORD 'secret'")
        made.run("owner", reading)
        yield made
    finally:
        made.drop()


def program(url: str, directory: Path) -> str:
    """What the program of the guide prints over a store."""
    environment = {**os.environ, "ORDERS_STORE": url}
    done = warm.run("-c", "\n".join(blocks("python")), cwd=directory, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def rights_of(url: str) -> dict[str, set[str]]:
    """What the user of the URL may do with which of our tables."""
    rows = execute(
        url,
        "SELECT c.relname, array_agg(may.what) AS may FROM pg_class c, unnest("
        "ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'TRIGGER']) AS may (what)"
        " WHERE c.relnamespace = 'perdure'::regnamespace AND c.relkind = 'r'"
        " AND has_table_privilege(c.oid, may.what) GROUP BY c.relname",
    )
    return {row["relname"]: set(row["may"]) for row in rows}


def test_the_program_says_the_same_over_either_store(shop, tmp_path):
    printed = program(shop.url("app"), tmp_path)
    assert printed == program("sqlite+aiosqlite:///orders.db", tmp_path)
    assert printed == "".join(blocks(""))


def test_the_rights_are_enough_and_no_more_than_needed(shop):
    asyncio.run(check(shop.url("app")))
    tables = {*metadata.tables, VERSION_TABLE}
    rights = rights_of(shop.url("app"))
    assert rights == {table: set(needed_of(table)) for table in tables}
    with pytest.raises(StoreNotWritable):
        asyncio.run(upgrade(f"{shop.url('app')}?schema=mine"))


def test_who_only_looks_may_do_that_and_change_nothing(shop):
    async def look():
        store = store_to_look_at(shop.url("reader"))
        await store.open()
        try:
            return await store.tallies(), await store.backlog()
        finally:
            await store.close()

    asyncio.run(look())
    with pytest.raises(StoreError, match="lacks rights"):
        asyncio.run(check(shop.url("reader")))
    assert set().union(*rights_of(shop.url("reader")).values()) == {"SELECT"}


def test_a_url_may_name_a_socket_and_leave_the_password_to_the_environment(
    postgres_server, postgres, monkeypatch
):
    if not isinstance(postgres_server, Server):
        pytest.skip("the socket of a server that is not ours is not known")
    monkeypatch.setenv("PGPASSWORD", postgres_server.password)
    url = (
        f"postgresql+asyncpg://{postgres_server.user}@/{make_url(postgres).database}"
        f"?host={postgres_server.directory}&port={postgres_server.port}&schema=perdure"
    )
    asyncio.run(check(url))

    async def look():
        store = store_to_look_at(url)
        await store.open()
        await store.close()

    asyncio.run(look())
