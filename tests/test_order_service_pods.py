"""The example service in two pods over one PostgreSQL: requests through either, one killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from perdure.store.shards import SHARDS, shard_of
from tests.test_order_service import (
    Service,
    all_there,
    end_under_load,
    flood,
    keys,
    serving,
    wait_until,
)

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs signals")


@pytest.fixture
def pods(postgres: str, tmp_path: Path) -> Iterator[list[Service]]:
    """Two of them, with half of the shards each."""
    with ExitStack() as stack:
        both = [stack.enter_context(serving(tmp_path / f"pod-{n}", postgres)) for n in range(2)]
        wait_until(lambda: all(len(cluster(pod)["here"]) == SHARDS // 2 for pod in both))
        yield both


def cluster(pod: Service) -> Any:
    """What readiness says of the shards."""
    answer = pod.http.get("/health/ready")
    assert answer.status_code == 200, answer.text
    return answer.json()["cluster"]


def placed_elsewhere(pod: Service, prefix: str) -> Any:
    """An order that the pod has taken, and another one owns."""
    here = set(cluster(pod)["here"])
    for key in keys(prefix):
        order = pod.place(key).json()
        if shard_of(f"Order/{order['id']}", SHARDS) not in here:
            return order


def test_one_order_is_reached_through_either_pod_and_carried_out_once(pods: list[Service]) -> None:
    one, other = pods
    order = placed_elsewhere(one, "cart")
    assert other.http.get(f"/orders/{order['id']}").json()["stage"] == "placed"
    paid = one.pay(order["id"], "p-1")
    assert (paid.status_code, paid.json()["stage"] != "placed") == (200, True)
    for pod in pods:  # known, wherever it comes again
        assert pod.pay(order["id"], "p-1").status_code == 200
    wait_until(lambda: one.stage(order["id"]) == "shipped")
    turns = other.http.get(f"/orders/{order['id']}/history").json()
    assert [turn["type"] for turn in turns] == [
        "OrderPlaced", "PaymentReceived", "ItemBooked", "ItemShipped"
    ]  # fmt: skip
    with ThreadPoolExecutor(8) as pool:  # one request that comes to both at once
        answers = list(pool.map(lambda n: pods[n % 2].place("twice"), range(8)))
    assert sorted(answer.status_code for answer in answers) == [200] * 7 + [201]
    assert len({answer.json()["id"] for answer in answers}) == 1
    for pod in pods:  # refused by its owner, in the same words
        late = pod.http.delete(f"/orders/{order['id']}")
        assert (late.status_code, late.json()["title"]) == (409, "InstanceFinished")
        nobody = pod.pay("no such order", "p")
        assert (nobody.status_code, nobody.json()["title"]) == (404, "InstanceNotFound")


def test_a_pod_that_is_killed_under_load_loses_nothing_and_the_other_goes_on(
    pods: list[Service],
) -> None:
    killed, left = pods
    waiting = placed_elsewhere(left, "waits")
    with ThreadPoolExecutor(2) as pool:
        going_on = pool.submit(lambda: flood(left, iter([f"b-{n}" for n in range(150)]), Event()))
        code, acknowledged = end_under_load(killed, "a", signal.SIGKILL)
        assert code == -signal.SIGKILL
        assert left.pay(waiting["id"], "p").status_code == 200  # its owner was the killed one
        acknowledged |= set(going_on.result())
    assert len(acknowledged) >= 170
    assert all_there(left, acknowledged)
    wait_until(lambda: len(cluster(left)["here"]) == SHARDS)
    assert cluster(left)["unowned"] == []
    wait_until(lambda: left.stage(waiting["id"]) == "shipped")
    assert left.end(signal.SIGTERM) == 0
