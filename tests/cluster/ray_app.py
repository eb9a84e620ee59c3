"""What hosts of Ray run in tests: ``tests.cluster.ray_app:app``."""

from __future__ import annotations

from perdure import Runtime
from tests.sagas import Ledger

APP = "tests.cluster.ray_app:app"


def app(store: str) -> Runtime:
    """Ledgers over a store."""
    return Runtime(store, [Ledger])
