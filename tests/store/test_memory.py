"""The memory store passes the contract of stores."""

from __future__ import annotations

from pathlib import Path

from perdure.store.memory import MemoryStore
from perdure.store.protocol import Store
from perdure.testing.store_contract import StoreContract


class TestMemoryStore(StoreContract):
    def make_store(self, tmp_path: Path) -> Store:
        return MemoryStore()

    def reopen(self, store: Store, tmp_path: Path) -> Store:
        return store
