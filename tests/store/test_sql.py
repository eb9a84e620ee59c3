"""The SQL store passes the contract of stores, with either durability."""

from __future__ import annotations

from pathlib import Path

from perdure.store.protocol import Store
from perdure.store.sql import SqlStore
from perdure.testing.store_contract import StoreContract


class TestSqlStore(StoreContract):
    def make_store(self, tmp_path: Path) -> Store:
        return SqlStore(f"sqlite+aiosqlite:///{tmp_path}/store.db")


class TestSqlStoreSynchronousNormal(StoreContract):
    def make_store(self, tmp_path: Path) -> Store:
        return SqlStore(f"sqlite+aiosqlite:///{tmp_path}/store.db", synchronous="NORMAL")
