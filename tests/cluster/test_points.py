"""The points at which the cluster sweep kills: which there are, and in which order one comes by."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

import perdure.failpoints as failpoints
from perdure import Runtime
from perdure.cluster import Cluster, ClusterSettings
from perdure.failpoints import ALONE, TOGETHER, Point
from tests.cluster.hosting import SOON
from tests.runtime.payments import charging, order, running
from tests.runtime.support import in_loop, open_ledger, until
from tests.sagas import Ledger

GUEST = ClusterSettings(takes_shards=False)
MAIL = (Point.MAIL_PUT, Point.MAIL_TAKEN, Point.MAIL_ANSWERED, Point.MAIL_GOES)


@pytest.fixture
def reached() -> Iterator[list[Point]]:
    """Everything that was reached, in order."""
    points: list[Point] = []
    failpoints.listener = points.append
    yield points
    failpoints.listener = None


def on(test: Callable[[str, list[Point]], Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run the coroutine function over a fresh database."""

    def run(postgres: str, reached: list[Point]) -> None:
        in_loop(30)(test)(postgres, reached)

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


def cluster(url: str, name: str, **more: Any) -> Cluster:
    return Cluster(url, [Ledger], name=name, **{"cluster": SOON, **more})


def test_a_point_is_one_of_any_process_or_one_over_postgresql() -> None:
    assert [*ALONE, *TOGETHER] == list(Point)


@on
async def test_who_takes_all_shards_owns_them_before_and_after_a_commit(
    url: str, reached: list[Point]
) -> None:
    async with Runtime(url, [Ledger]):
        assert reached.count(Point.OWNING) == 2
        assert Point.RELEASING not in reached
    assert reached.count(Point.RELEASING) == 2


@on
async def test_a_host_claims_what_is_free_and_gives_it_up_when_it_goes(
    url: str, reached: list[Point]
) -> None:
    async with cluster(url, "a") as runtime:
        assert reached[:2] == [Point.OWNING] * 2
        assert reached.count(Point.OWNING) == 2
        assert reached.count(Point.TAKEN_OVER) == len(runtime.host.owned) == 16
    assert reached.count(Point.RELEASING) == 2 * 16 + 2, "each shard, then the host itself"


@on
async def test_a_host_that_is_told_its_shards_takes_them(url: str, reached: list[Point]) -> None:
    async with cluster(url, "a", assigned=[3]):
        assert reached.count(Point.OWNING) == 2
        assert reached.count(Point.TAKEN_OVER) == 1


@on
async def test_a_message_for_another_process_comes_by_its_mail(
    url: str, reached: list[Point]
) -> None:
    async with cluster(url, "a"), cluster(url, "guest", cluster=GUEST) as guest:
        reached.clear()
        await open_ledger(guest, "o-1")
        await until(lambda: reached.count(Point.MAIL_GOES) == 2)
    way = list(dict.fromkeys(reached))
    assert [point for point in way if point in MAIL] == list(MAIL)
    assert way.index(Point.MAIL_TAKEN) < way.index(Point.LOADED)
    assert way.index(Point.COMMITTED) < way.index(Point.MAIL_ANSWERED)
    assert reached.count(Point.MAIL_PUT) == 2


@on
async def test_a_worker_with_a_transaction_of_its_own_has_performed_before_and_after_its_commit(
    url: str, reached: list[Point]
) -> None:
    async with running(url, charging()) as runtime:
        await order(runtime)
    around = [
        point for point in reached if point in (Point.JOB_BEGINS, Point.PERFORMED, Point.JOB_ENDS)
    ]
    assert around == [Point.JOB_BEGINS, Point.PERFORMED, Point.PERFORMED, Point.JOB_ENDS]
