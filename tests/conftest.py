"""Fixtures shared by the tests of the runtime: a store of each kind, and time that stands still."""

from __future__ import annotations

import gc
import os
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from perdure import MemoryStore, SqlStore
from perdure.core.described import storable
from perdure.store.postgres import PostgresStore
from perdure.store.protocol import Store
from perdure.testing import FaultyStore, SimulatedClock
from tests.effort import times

pytest_plugins = ["tests.servers.fixtures"]

# A fresh clone builds Hypothesis's table of characters inside the first test that draws text, and a
# busy machine is slow: neither is a failure.
settings.register_profile(
    "perdure",
    deadline=None,
    max_examples=times(100),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("perdure")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The slow ones first: several processes that share the tests are done at the same time."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def pytest_collection_finish() -> None:
    """All tests and their modules stay: whatever collects garbage need not walk them each time."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A log may hold half a character, on purpose; pytest-xdist could not send it on."""
    report = yield
    report.sections = [(name, storable(text)) for name, text in report.sections]
    return report


@pytest.fixture(params=os.environ.get("PERDURE_TEST_STORES", "memory,sqlite").split(","))
def store(request: pytest.FixtureRequest, tmp_path: Path) -> FaultyStore:
    """One store of each kind, behind faults that a test may ask for.

    ``PERDURE_TEST_STORES=postgres`` runs whatever uses it over PostgreSQL instead; some of it
    always does (``runtime/test_on_postgres.py``).
    """
    inner: Store = MemoryStore()
    if request.param == "sqlite":
        inner = SqlStore(f"sqlite+aiosqlite:///{tmp_path}/store.db", synchronous="NORMAL")
    elif request.param == "postgres":
        inner = PostgresStore(request.getfixturevalue("postgres"))
    return FaultyStore(inner)


@pytest.fixture
def memory() -> FaultyStore:
    """A store in memory, where the kind does not matter."""
    return FaultyStore(MemoryStore())


@pytest.fixture
def clock() -> SimulatedClock:
    """Time that stands still until a test advances it."""
    return SimulatedClock()
