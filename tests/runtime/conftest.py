"""Fixtures of the runtime's tests over PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers.databases import AnyServer, fresh_database


@pytest.fixture
def other_postgres(postgres_server: AnyServer, postgres_template: str) -> Iterator[str]:
    """The URL of a second database with our schema, as a copy of the first has it."""
    with fresh_database(postgres_server, postgres_template) as url:
        yield url
