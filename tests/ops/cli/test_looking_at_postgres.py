"""The commands that look, at a store in PostgreSQL beside its live owner."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from perdure.ops.cli.exits import Exit
from tests.ops.cli.support import Command, Live
from tests.sagas import Added, Closed, Ledger, Opened


class LiveOnServer(Live):
    """A runtime over a database, beside the test."""

    def __init__(self, url: str) -> None:
        super().__init__(Path("unused.db"))
        from perdure import Runtime

        self.runtime = Runtime(url, [Ledger])
        self._thread = threading.Thread(target=self._loop.run_forever)


@pytest.fixture
def look(perdure: Command, postgres: str) -> Iterator[Command]:
    perdure.path = postgres  # type: ignore[assignment]
    with LiveOnServer(postgres) as live:
        for name in ("plain", "a/b", "注文"):
            live.send(Ledger, name, Opened(name), Added(name, 1))
        live.send(Ledger, "plain", Closed("plain"))
        yield perdure


def test_what_is_there_is_shown(look):
    found: list[Any] = look.rows("instances", "list")
    assert {row["correlation_id"] for row in found} == {"plain", "a/b", "注文"}
    [closed] = look.rows("instances", "list", "--status", "completed")
    assert closed["correlation_id"] == "plain"
    shown = look.document("instances", "show", "Ledger/plain")
    assert shown["status"] == "completed"


def test_the_store_is_judged(look):
    assert look.document("health", "--store-only")["status"] == "healthy"
    assert look.document("health")["status"] == "healthy"


def test_what_would_change_it_says_who_can(look):
    look("queue", "pause", "runtime-test.ship", "--why", "tea", exits=Exit.STORE)
    assert "--app" in look.err
