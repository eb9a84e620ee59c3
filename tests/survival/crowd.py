"""The workload in one of several processes: what ``perdure run tests.survival.crowd:app`` runs.

Where it is told to be killed at a point, it is at a random one of its hits. Who sends is elsewhere:
``tests/cluster_sweep.py``. Next to read: ``sagas.py``, the workload; ``ledger.py``.
"""

from __future__ import annotations

import os
import random
from typing import Any

import perdure.failpoints as failpoints
from perdure import Settings
from perdure.cluster import Cluster, ClusterSettings
from tests.survival.ledger import Shared
from tests.survival.life import HOSTILE, Killer
from tests.survival.sagas import members

LEDGER = "SURVIVAL_LEDGER"
POINTS = "SURVIVAL_POINTS"
HITS_MAX = 400


def app(store: str) -> Cluster:
    """A process that takes part. It may have a point to die at, told by its environment."""
    if points := os.environ.get(POINTS):
        chance = random.SystemRandom()
        failpoints.listener = Killer(chance.choice(points.split(",")), chance.randint(1, HITS_MAX))
    return crowd(store, takes_shards=True)


def crowd(store: str, *, takes_shards: bool, **more: Any) -> Cluster:
    """One of the workload, with or without instances of its own."""
    return Cluster(
        store,
        members(),
        Settings(**HOSTILE),
        cluster=ClusterSettings(lease_s=3, takes_shards=takes_shards),
        resources={"outside": Shared(os.environ[LEDGER])},
        **more,
    )
