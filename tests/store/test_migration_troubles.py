"""What a server refuses to whoever migrates is told in our words, with what to do."""

from __future__ import annotations

import asyncio
import re
import secrets
import socket
from collections.abc import Iterator

import pytest
from sqlalchemy.engine import make_url

from perdure.errors import (
    DefinitionError,
    StoreError,
    StoreNotWritable,
    StoreUnavailable,
)
from perdure.store.migrations import check, current, upgrade
from tests.servers.databases import execute, fresh_database


def as_user(url: str, user: str, password: str = "secret") -> str:
    return make_url(url).set(username=user, password=password).render_as_string(False)


@pytest.fixture
def user(empty_postgres: str) -> Iterator[str]:
    """A user who may connect, and nothing else."""
    name = f"app_{secrets.token_hex(4)}"
    execute(empty_postgres, f"CREATE USER {name} PASSWORD 'secret'")
    yield name
    execute(empty_postgres, f"DROP OWNED BY {name}", f"DROP USER {name}")


def refused(url: str, *kinds: type[Exception]) -> str:
    """What everybody is told who asks."""
    with pytest.raises(kinds or StoreUnavailable) as raised:
        asyncio.run(upgrade(url))
    with pytest.raises(type(raised.value), match=re.escape(str(raised.value))):
        asyncio.run(current(url))
    return str(raised.value)


def test_a_server_that_does_not_answer():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        url = f"postgresql://ann:hidden@127.0.0.1:{taken.getsockname()[1]}/shop"
        told = refused(url)
    assert re.search(r"cannot reach .*check the host and the port", told)
    assert "hidden" not in told


def test_a_wrong_password_a_wrong_user_and_a_wrong_database(empty_postgres, user):
    told = refused(as_user(empty_postgres, user, "hidden"))
    assert re.search("password authentication failed .*check the user and the password", told)
    assert "hidden" not in told
    assert "authentication failed" in refused(as_user(empty_postgres, "nobody_at_all"))
    missing = make_url(empty_postgres).set(database="no_such").render_as_string(False)
    assert "create the database: CREATE DATABASE no_such" in refused(missing)


def test_a_user_without_rights_is_told_what_to_be_granted(empty_postgres, user):
    url = as_user(empty_postgres, user)
    with pytest.raises(StoreNotWritable, match=f"CREATE SCHEMA .* AUTHORIZATION {user}"):
        asyncio.run(upgrade(url))
    execute(empty_postgres, "CREATE SCHEMA perdure", f"GRANT USAGE ON SCHEMA perdure TO {user}")
    owner = make_url(empty_postgres).username
    with pytest.raises(StoreNotWritable, match=f"may not create .* as its owner, {owner}$"):
        asyncio.run(upgrade(url))
    execute(empty_postgres, f"ALTER SCHEMA perdure OWNER TO {user}")
    asyncio.run(upgrade(url))
    asyncio.run(check(url))


def test_who_may_not_look_into_the_schema_is_told(postgres):
    name = f"app_{secrets.token_hex(4)}"
    execute(postgres, f"CREATE USER {name} PASSWORD 'secret'")
    try:
        url = as_user(postgres, name)
        with pytest.raises(StoreNotWritable, match="GRANT USAGE ON SCHEMA"):
            asyncio.run(check(url))
        told = refused(url, StoreNotWritable)
        assert f"connect as its owner, {make_url(postgres).username}" in told
        assert "CREATE SCHEMA" not in told
        execute(postgres, *told.partition("have that one do: ")[2].split("; "))
        assert asyncio.run(current(url)).is_current
        assert asyncio.run(upgrade(url)).is_current  # there is nothing to do
    finally:
        execute(postgres, f"DROP OWNED BY {name}", f"DROP USER {name}")


def test_what_the_server_says_stands_there_without_names_of_classes(empty_postgres, user):
    told = refused(as_user(empty_postgres, user, "wrong"))
    assert "schema 'perdure': password authentication failed for user" in told


def test_the_rights_that_check_names_are_those_that_are_missing(empty_postgres, user):
    asyncio.run(upgrade(empty_postgres))
    url = as_user(empty_postgres, user)
    with pytest.raises(StoreError, match="lacks rights") as raised:
        asyncio.run(check(url))
    every = (raised.value.remedy or "").partition("as its owner: ")[2].split("; ")
    assert every[0] == f'GRANT USAGE ON SCHEMA "perdure" TO {user}'
    assert every[-1] == f'GRANT USAGE ON SEQUENCE "perdure".epochs TO {user}'
    for table in ("perdure_version", "meta", "mail"):
        assert any(f'"perdure".{table}' in each for each in every if "GRANT SELECT" in each)
    for _ in range(2):
        with pytest.raises(StoreError, match="lacks rights") as raised:
            asyncio.run(check(url))
        granting = (raised.value.remedy or "").partition("as its owner: ")[2].split("; ")
        execute(empty_postgres, *granting[::2])  # the other half is missing still
    execute(empty_postgres, *granting)
    asyncio.run(check(url))


def test_a_database_of_another_encoding_is_refused(postgres_server):
    name = f"perdure_{secrets.token_hex(4)}"
    server = postgres_server.url("postgres")
    execute(server, f"CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    try:
        with pytest.raises(StoreError, match=r"has the encoding LATIN1.* ENCODING 'UTF8'"):
            asyncio.run(upgrade(postgres_server.url(name)))
    finally:
        execute(server, f"DROP DATABASE {name} WITH (FORCE)")


def test_a_server_that_only_reads_is_refused(empty_postgres):
    name = make_url(empty_postgres).database
    execute(empty_postgres, f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    with pytest.raises(StoreNotWritable, match="give the address of the primary"):
        asyncio.run(upgrade(empty_postgres))


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("sqlite+aiosqlite:///orders.db", "is not for PostgreSQL"),
        ("memory://", "is not for PostgreSQL"),
        ("postgresql+psycopg://db/shop", "is not for PostgreSQL through asyncpg"),
        ("postgresql://db", "names no database"),
        ("postgresql://ann@db:99999/shop", "@db:99999/shop' has no possible port"),
        ("postgresql://ann:99999/shop", r"ann:\*\*\*/shop' has no possible port"),
        ("postgresql://ann:4711", r"'postgresql://ann:\*\*\*' names no database"),
        ("mysql://ann:4711/shop", "is not for PostgreSQL"),
        ("postgresql://db:hidden/shop", "cannot be read"),
        ("hidden", "cannot be read"),
        ("postgresql://db/shop?schema=", "'' cannot be the schema"),
        ("postgresql://db/shop?schema=pg_ours", "'pg_ours' cannot be the schema"),
        (f"postgresql://db/shop?schema={'x' * 46}", "cannot be the schema"),
        ("postgresql://db/shop?schema=a&schema=b", "several schemas"),
    ],
)
def test_a_url_that_names_no_database_of_postgresql_is_refused(url, problem):
    with pytest.raises(DefinitionError, match=problem) as raised:
        asyncio.run(upgrade(url))
    assert "hidden" not in str(raised.value)
    assert "4711" not in str(raised.value)


def test_what_may_be_a_password_whose_host_was_forgotten_is_not_shown():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        port = taken.getsockname()[1]
        told = refused(f"postgresql://localhost:{port}/shop")
    assert str(port) not in told
    assert "localhost:***/shop" in told


def test_two_databases_do_not_disturb_each_other(postgres_server):
    async def both(*urls: str):
        return await asyncio.gather(*map(upgrade, urls))

    with fresh_database(postgres_server) as one, fresh_database(postgres_server) as other:
        assert [each.came_from for each in asyncio.run(both(one, other))] == [None, None]
