"""What hosts of Ray run in tests: ``tests.cluster.ray_app:app``."""

from __future__ import annotations

from perdure.cluster import Cluster, ClusterSettings
from tests.sagas import Ledger

APP = "tests.cluster.ray_app:app"


def app(store: str) -> Cluster:
    """Ledgers over a store, with the lease that docs/ray.md recommends."""
    return Cluster(store, [Ledger], cluster=ClusterSettings(lease_s=4))
