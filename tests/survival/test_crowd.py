"""Several processes under one load, killed, stopped and paused: in small.

Large: ``python -m tests.cluster_sweep`` and ``python -m tests.declarations_sweep``.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from perdure.failpoints import Point
from tests.cluster_sweep import Sent, story
from tests.declarations_sweep import in_memory, missing_notices, several
from tests.servers.databases import AnyServer, fresh_database, wait_aged
from tests.survival.declared import EXAMPLES

SAMPLE = EXAMPLES / "data" / "declarations_sample.xes"


@pytest.fixture
def aged(postgres_server: AnyServer, postgres_template: str) -> AnyServer:
    """A server that believes that a killed process is gone."""
    wait_aged(postgres_server.url(postgres_template))
    return postgres_server


KILLED_AT = [Point.OWNING, Point.MAIL_ANSWERED, Point.PERFORMED]


def test_nothing_is_lost_doubled_or_overtaken_when_processes_die_at_points_and_are_stopped(
    aged: AnyServer, postgres_template: str, tmp_path: Path
) -> None:
    told = story(
        aged, postgres_template, tmp_path, Sent(operations=60, messages=140, instances=14),
        processes=2, seed="1", every=100, hows=["stop"], points=KILLED_AT, clients=2,
    )  # fmt: skip
    print(told.as_dict())
    assert told.findings == []
    counts = told.counts
    assert counts["acknowledged"] + counts["refused"] == counts["tried"] >= 200
    assert counts["stop"] > 0
    assert told.deaths == dict.fromkeys(KILLED_AT, 1)


def test_the_declarations_have_their_figures_whoever_is_killed(
    aged: AnyServer, postgres_template: str, tmp_path: Path
) -> None:
    with fresh_database(aged, postgres_template) as url:
        found, kills = asyncio.run(several(url, SAMPLE, tmp_path, 2, 0.0, 2, "1"))
    assert kills == 2
    assert found == in_memory(SAMPLE)
    assert missing_notices(tmp_path, found) == 0
