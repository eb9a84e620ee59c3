"""The store in PostgreSQL passes the conformance suite: as owner of all shards, and of one."""

from __future__ import annotations

from pathlib import Path

import pytest

from perdure.store.postgres import PostgresStore
from perdure.store.protocol import Store
from perdure.testing.store_contract import StoreContract


class TestOwnerOfAll(StoreContract):
    @pytest.fixture(autouse=True)
    def _database(self, postgres: str) -> None:
        self.url = postgres

    def make_store(self, tmp_path: Path) -> Store:
        return PostgresStore(self.url)


class TestOwnerOfOneShard(StoreContract):
    @pytest.fixture(autouse=True)
    def _database(self, postgres: str) -> None:
        self.url = postgres

    def make_store(self, tmp_path: Path) -> Store:
        return PostgresStore(self.url, shard=3)
