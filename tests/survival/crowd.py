"""The workload in one of several processes: what ``perdure run tests.survival.crowd:app`` runs.

It dies where a death is dealt (``deaths.py``). Who sends is elsewhere: ``tests/cluster_sweep.py``.
Next to read: ``sagas.py`` and ``books.py``, the workload; ``ledger.py``.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import perdure.failpoints as failpoints
from perdure import Settings
from perdure.cluster import Cluster, ClusterSettings
from tests.survival.books import Books, bookkeeping, session_of
from tests.survival.deaths import Deaths, Mortal
from tests.survival.ledger import Shared
from tests.survival.life import HOSTILE
from tests.survival.sagas import members

LEDGER = "SURVIVAL_LEDGER"
DEATHS = "SURVIVAL_DEATHS"
PATIENCE_S = 300.0
"""A sender waits for room while nobody owns its instance, and is not refused."""


def app(store: str) -> Cluster:
    """A process that takes part. It is mortal if its environment says where deaths are."""
    if folder := os.environ.get(DEATHS):
        failpoints.listener = Mortal(Deaths(Path(folder)), Shared(os.environ[LEDGER]))
    return crowd(store, takes_shards=True)


def crowd(store: str, *, takes_shards: bool, **more: Any) -> Cluster:
    """One of the workload, with or without instances of its own."""
    return Cluster(
        store,
        [*members(), Books, bookkeeping()],
        Settings(**HOSTILE, accept_timeout_s=PATIENCE_S),
        cluster=ClusterSettings(lease_s=3, takes_shards=takes_shards),
        resources={"outside": Shared(os.environ[LEDGER]), "session": session_of(store)},
        **more,
    )
