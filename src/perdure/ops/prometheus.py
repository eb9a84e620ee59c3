"""Metrics for Prometheus, in the caller's registry. Needs the extra ``perdure[prometheus]``.

    from prometheus_client import start_http_server
    from perdure.ops.prometheus import Metrics

    async with Runtime("sqlite+aiosqlite:///orders.db", [OrderFulfilment]) as runtime:
        Metrics(runtime)                    # in prometheus-client's default registry
        start_http_server(9000)             # scraped from another thread, at :9000/metrics
        await runtime.stopped()

What is counted in memory is plain numbers, collected when somebody scrapes. How many processes
there are and were, what waits, and how large the store is, is read from the store at a scrape, so
it is right after a restart; between scrapes nothing is read. The names are EventCore's where it
has them. Labels are names of sagas, queues, outcomes and classes, never an instance's.
Next to read: ``families.py``, the list; ``exposition.py``, several runtimes in one registry.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter, defaultdict
from collections.abc import Mapping
from concurrent.futures import CancelledError as FutureCancelledError
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from datetime import timedelta
from importlib.resources import files
from threading import get_ident
from typing import Any

try:
    from prometheus_client import REGISTRY, CollectorRegistry
except ImportError as error:
    raise ImportError(
        "perdure.ops.prometheus needs prometheus-client; install it: "
        "pip install 'perdure[prometheus]'"
    ) from error

from perdure.core.tally import TallyRow
from perdure.errors import StoreError
from perdure.observer import (
    BatchCommitted,
    CompensationBegun,
    DeadLettered,
    DeadlineFired,
    Observer,
    Passivated,
    Quarantined,
    Rehydrated,
    Retrying,
    SendRefused,
    SnapshotTaken,
    unheard,
)
from perdure.ops.exposition import Samples, join, leave, sources_of
from perdure.ops.families import FAMILIES
from perdure.ops.gauges import gauges_of
from perdure.ops.spread import Spread
from perdure.runtime.runtime import Runtime
from perdure.store.backlog import Backlog

__all__ = ["Metrics", "dashboard"]

logger = logging.getLogger("perdure.metrics")

REFRESH_S = 2.0
"""A scrape waits for the store for so long; then it shows what it last knew, and ``store_up`` 0."""


@dataclass(frozen=True, slots=True)
class StoreFigures:
    """What the store said when it was last asked."""

    tallies: tuple[TallyRow, ...] = ()
    backlog: Backlog | None = None
    size_bytes: int | None = None
    is_up: bool = False


class Metrics(Observer):
    """The metrics of one runtime, registered until it stops (and again when it starts again).

    ``labels`` are constant and tell several runtimes in one registry apart. ``refresh_s`` bounds
    how long a scrape waits for the store. Raises ``DefinitionError`` if the names are taken.
    """

    def __init__(
        self,
        runtime: Runtime,
        registry: CollectorRegistry | None = None,
        prefix: str = "perdure",
        *,
        labels: Mapping[str, str] | None = None,
        refresh_s: float = REFRESH_S,
    ) -> None:
        self.registry = REGISTRY if registry is None else registry
        self.prefix = prefix
        self.labels = dict(labels or {})
        self._runtime = runtime
        self._refresh_s = refresh_s
        self._figures = StoreFigures()
        self._refreshing: asyncio.Task[None] | None = None
        self._counts: dict[str, Counter[tuple[str, ...]]] = defaultdict(Counter)
        self._turns = self._counts["turns"]
        self._attempts = self._counts["job_attempts"]
        self._spreads: dict[str, dict[tuple[str, ...], Spread]] = defaultdict(dict)
        self._batches = self._spread("commit_entries")
        self._commits = self._spread("commit_seconds")
        self._is_shown = False
        self.runtime_started()
        runtime.observe(self)

    # Showing

    def runtime_started(self) -> None:
        if not self._is_shown:
            join(self.registry, self.prefix, self)
            self._is_shown = True

    def runtime_stopped(self) -> None:
        leave(self.registry, self.prefix, self)
        self._is_shown = False
        self._figures = StoreFigures()

    def close(self) -> None:
        """Leave the registry, and hear no more of the runtime."""
        self._runtime.unobserve(self)
        self.runtime_stopped()

    async def refresh(self) -> None:
        """Read the stores' figures anew; on the runtime's loop, before a scrape there.

            await metrics.refresh()
            body = generate_latest(metrics.registry)

        Also those of the other runtimes of this thread that such a scrape shows.
        """
        shown = [one for one in sources_of(self.registry) if isinstance(one, Metrics)]
        others = [one for one in shown if one is not self and one._is_run_here]
        await asyncio.gather(*(one._refreshed() for one in [self, *others]))

    @property
    def _is_run_here(self) -> bool:
        running = self._runtime.running
        return running is not None and running.thread_id == get_ident()

    async def _refreshed(self) -> None:
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.get_running_loop().create_task(self._refresh())
        await asyncio.shield(self._refreshing)

    async def _refresh(self) -> None:
        running = self._runtime.running
        if running is None or running.is_stopping:
            return
        store = running.services.store
        try:
            async with asyncio.timeout(self._refresh_s):
                tallies, backlog = await store.tallies(), await store.backlog()
                self._figures = StoreFigures(tuple(tallies), backlog, await store.size(), True)
        except (StoreError, TimeoutError) as error:
            why = str(error) or f"no answer within {self._refresh_s:g} s"
            logger.warning("the store's figures are not read anew: %s", why)
            self._is_down()

    def _is_down(self) -> None:
        known = self._figures
        self._figures = StoreFigures(known.tallies, known.backlog, known.size_bytes)

    def samples(self) -> Samples:
        """What is to be shown; from another thread than the runtime's, the store is read first."""
        running = self._runtime.running
        if running is not None and not running.is_stopping and get_ident() != running.thread_id:
            refresh = self._refreshed()
            try:
                asyncio.run_coroutine_threadsafe(refresh, running.loop).result(self._refresh_s)
            except (FutureTimeoutError, FutureCancelledError):  # it is slow, or ends
                self._is_down()
            except RuntimeError:  # the loop has ended
                refresh.close()
                self._is_down()
        shown: dict[str, dict[tuple[str, ...], Any]] = {
            name: dict(counts) for name, counts in list(self._counts.items())
        }
        shown |= {name: dict(spreads) for name, spreads in list(self._spreads.items())}
        sagas = list(self._runtime.sagas)
        for saga in sagas:
            shown["turns"].setdefault((saga, "applied"), 0)
        figures = self._figures
        gauges_of(
            running,
            self._runtime.runnings,
            sagas,
            figures.tallies,
            figures.backlog,
            figures.size_bytes,
            shown,
        )
        shown["store_up"] = {(): int(figures.is_up)}
        return shown

    def _spread(self, family: str, *labels: str) -> Spread:
        spreads = self._spreads[family]
        found = spreads.get(labels)
        if found is None:
            found = spreads[labels] = Spread(FAMILIES[family].bounds)
        return found

    # Processes that the store does not know

    def record_process_started(self, process_type: str) -> None:
        """Count in a process that is run elsewhere; the runtime's own are counted by its store."""
        self._counts["processes_started"][process_type,] += 1

    def record_process_completed(self, process_type: str, duration: timedelta) -> None:
        """Count in the completion of a process that is run elsewhere."""
        self._counts["processes_completed"][process_type,] += 1
        self._spread("process_duration_seconds", process_type).add(duration.total_seconds())

    def record_process_failed(self, process_type: str, duration: timedelta) -> None:
        """Count in the failure of a process that is run elsewhere."""
        self._counts["processes_failed"][process_type,] += 1

    # Hearing

    process_started = process_stopped = unheard
    """The store counts them."""

    def record_end(self, process_type: str, status: str, seconds: float) -> None:
        if status == "completed":
            self._spread("process_duration_seconds", process_type).add(seconds)

    def record_turn(self, process_type: str, outcome: str) -> None:
        self._turns[process_type, outcome] += 1

    def record_attempt(self, queue: str, outcome: str, seconds: float) -> None:
        self._attempts[queue, outcome] += 1
        self._spread("job_seconds", queue).add(seconds)

    def batch_committed(self, event: BatchCommitted) -> None:
        self._batches.add(event.size)
        self._commits.add(event.seconds)

    def snapshot_taken(self, event: SnapshotTaken) -> None:
        self._spread("state_bytes", event.name).add(event.size_bytes)

    def deadline_fired(self, event: DeadlineFired) -> None:
        self._spread("deadline_lateness_seconds", event.name).add(event.lateness_s)

    def rehydrated(self, event: Rehydrated) -> None:
        self._counts["rehydrations"][event.name,] += 1

    def passivated(self, event: Passivated) -> None:
        self._counts["passivations"][event.name,] += 1

    def compensation_begun(self, event: CompensationBegun) -> None:
        self._counts["compensations"][event.name,] += 1

    def quarantined(self, event: Quarantined) -> None:
        self._counts["quarantines"][event.name,] += 1

    def retrying(self, event: Retrying) -> None:
        self._counts["retries"][event.name, "job" if event.queue else "message"] += 1

    def dead_lettered(self, event: DeadLettered) -> None:
        self._counts["dead_letters"][event.name, "job" if event.queue else "message"] += 1

    def send_refused(self, event: SendRefused) -> None:
        self._counts["send_refusals"][event.name, event.reason] += 1


def dashboard(prefix: str = "perdure") -> dict[str, Any]:
    """A Grafana dashboard of these metrics, to be imported: its JSON as Python data.

    >>> Path("perdure.json").write_text(json.dumps(dashboard()))
    """
    text = files("perdure.ops").joinpath("grafana.json").read_text(encoding="utf-8")
    made: dict[str, Any] = json.loads(text.replace("perdure_", f"{prefix}_"))
    return made
