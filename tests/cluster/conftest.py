"""A database with eight shards."""

from __future__ import annotations

import asyncio

import pytest

from tests.cluster.support import shards_of


@pytest.fixture
def database(empty_postgres: str) -> str:
    """The URL of a database with our tables, and eight shards that nobody has owned."""
    asyncio.run(shards_of(empty_postgres))
    return empty_postgres
