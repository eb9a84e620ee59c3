"""The kill sweep over PostgreSQL in small: what holds in a file holds there.

Large: ``python -m tests.kill_sweep --store postgresql``.
"""

from __future__ import annotations

import random
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from perdure.failpoints import Point
from perdure.testing.invariants import violations
from tests.kill_sweep import kill_at
from tests.servers.databases import AnyServer, execute, wait_aged
from tests.survival.places import PostgresPlace
from tests.survival.story import Story, Zygote

SOON_PASSED = [
    Point.OWNING, Point.WRITING, Point.COMMITTING, Point.COMMITTED, Point.RESULT_TAKEN,
]  # fmt: skip


@pytest.fixture(scope="module")
def aged(postgres_server: AnyServer, postgres_template: str) -> AnyServer:
    """A server that believes that a killed process is gone."""
    wait_aged(postgres_server.url(postgres_template))
    return postgres_server


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    with Zygote() as process:
        yield process


def test_killed_at_points_over_one_database(
    aged: AnyServer, postgres_template: str, zygote: Zygote, tmp_path: Path
) -> None:
    place, chance = partial(PostgresPlace, aged, postgres_template), random.Random(1)
    with Story(zygote, tmp_path, "all", place=place) as story:
        reached = [point for point in SOON_PASSED if kill_at(story, point, chance)]
        story.end()
        counts = story.counted()
    print(counts)
    assert story.findings == []
    assert reached == SOON_PASSED
    assert counts["acknowledged"] > 30


def test_stopped_in_order_the_next_one_starts_at_once(
    aged: AnyServer, postgres_template: str, zygote: Zygote, tmp_path: Path
) -> None:
    with Story(zygote, tmp_path, "s", place=partial(PostgresPlace, aged, postgres_template)) as s:
        for _ in range(2):
            stopped = {"signal": signal.SIGTERM, "when_ready": True, "serves": True}
            assert s.live(kill_after_s=0.2, quota=10_000, **stopped) == 0
        s.end()
    assert s.findings == []


def test_the_copy_shows_what_is_broken_in_the_database(
    aged: AnyServer, postgres_template: str, zygote: Zygote, tmp_path: Path
) -> None:
    with Story(zygote, tmp_path, "b", place=partial(PostgresPlace, aged, postgres_template)) as s:
        s.live()
        s.end()
        assert s.findings == []
        execute(
            s.place.url,
            "UPDATE perdure.journal SET body = body || '\\x00' "
            "WHERE position = (SELECT min(position) FROM perdure.journal)",
            "UPDATE perdure.shards SET epoch = 0",
        )
        with closing(sqlite3.connect(s.place.tables(), isolation_level=None)) as copy:
            broken = {violation.rule.value for violation in violations(copy)}
    assert {"checksum", "epoch"} <= broken
