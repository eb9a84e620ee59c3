"""A database with eight shards; a cluster of Ray for all tests that need one."""

from __future__ import annotations

import asyncio
from collections.abc import Generator

import pytest

from tests.cluster.support import shards_of
from tests.servers.ray import SharedRay


@pytest.fixture
def database(empty_postgres: str) -> str:
    """The URL of a database with our tables, and eight shards that nobody has owned."""
    asyncio.run(shards_of(empty_postgres))
    return empty_postgres


@pytest.fixture(scope="package")
def shared_ray() -> Generator[SharedRay, None, None]:
    """Started when it is wanted. Each test or module ends the hosts that it has brought up."""
    shared = SharedRay()
    yield shared
    shared.close()
