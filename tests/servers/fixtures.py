"""Fixtures of a PostgreSQL server; whatever test uses one has the mark ``postgres``.

The server is started by the first test that needs it, one in each process of pytest-xdist, and is
ended with its process, however that ends. Where there is none, the tests are skipped and say why;
with ``PERDURE_REQUIRE_SERVERS=1`` they fail. ``TEST_POSTGRES_URL`` names another server, on which
the user of the URL may create databases. Next to read: ``postgres.py``.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

import pytest

from tests.servers.databases import (
    AnyServer,
    ForeignServer,
    drop_database,
    fresh_database,
    new_database,
)
from tests.servers.postgres import NoServer, Server, found

__all__ = ["REQUIRED"]

REQUIRED = "PERDURE_REQUIRE_SERVERS"
FIXTURES = {"own_postgres", "postgres_server"}


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark whatever needs a server, through another fixture too."""
    for item in items:
        if FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.postgres)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[AnyServer]:
    """The server that the tests of this process share.

    Ours, unless ``TEST_POSTGRES_URL`` is set: who needs to kill one takes ``own_postgres``.
    """
    if url := os.environ.get("TEST_POSTGRES_URL"):
        yield ForeignServer(url)
        return
    with _server() as server:
        yield server


@pytest.fixture
def own_postgres() -> Iterator[Server]:
    """A server for one test alone, which may stop and kill it. It writes through to the disk."""
    with _server(fsync="on", full_page_writes="on") as server:
        yield server


@pytest.fixture(scope="session")
def postgres_template(postgres_server: AnyServer) -> Iterator[str]:
    """The name of a database that has our schema: others are made as its copies."""
    from perdure.store.migrations import upgrade

    name = new_database(postgres_server)
    asyncio.run(upgrade(postgres_server.url(name)))
    yield name
    drop_database(postgres_server, name)


@pytest.fixture
def postgres(postgres_server: AnyServer, postgres_template: str) -> Iterator[str]:
    """The URL of a fresh database with our schema."""
    with fresh_database(postgres_server, postgres_template) as url:
        yield url


@pytest.fixture
def empty_postgres(postgres_server: AnyServer) -> Iterator[str]:
    """The URL of a fresh database with nothing in it."""
    with fresh_database(postgres_server) as url:
        yield url


def _server(**settings: str) -> Server:
    try:
        return Server(found(), **settings)
    except NoServer as problem:
        if os.environ.get(REQUIRED):
            pytest.fail(f"{REQUIRED} is set, but {problem}", pytrace=False)
        pytest.skip(str(problem))
