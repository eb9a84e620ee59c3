"""A store that fails, or waits, when a test says so.

    store = FaultyStore(MemoryStore())
    async with Runtime(store, [Order]) as runtime:
        store.fail_writes(after_commit=True)            # written, yet an error: outcome unknown
        await runtime.publish(OrderPlaced("o-1"))       # settled by reading back, applied once

        store.hold_writes()
        sending = asyncio.create_task(runtime.publish(OrderPaid("o-1")))
        await store.held()                              # its write stands at the gate
        assert (await runtime.state(order)).state.status == "placed"
        store.release()
        await sending
        assert store.calls["write"] == store.writes

Faults are counted: each is used up by the calls it fails. Nothing here depends on time.
Next to read: ``store/protocol.py``, whose calls it passes on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal, TypeAlias, TypeVar

from perdure.core.commit import (
    DeadLetterRow,
    DeadlineRow,
    Entry,
    HeadRow,
    InboxRow,
    JournalRow,
    OutboxRow,
    QuarantineRow,
    QueueRow,
    SnapshotRow,
    Status,
    TombstoneRow,
    TurnRecord,
)
from perdure.core.head_query import HeadQuery
from perdure.core.tally import TallyRow
from perdure.errors import SequenceConflict, StoreError, StoreUnavailable
from perdure.store.backlog import Backlog
from perdure.store.protocol import InstanceRows, LoadedInstance, Store
from perdure.store.write_plan import key_of
from perdure.testing.gates import Fault, Gate, strike

__all__ = ["FaultyStore", "Read"]

Read: TypeAlias = Literal[
    "load", "journal", "snapshots", "heads", "find", "count", "tallies", "tombstones", "size",
    "deadlines", "inbox", "inbox_due", "outbox", "jobs_ready", "jobs_due", "jobs_at", "jobs_after",
    "queues", "queue_depths", "retried", "backlog", "quarantines", "inbox_sizes",
    "dead_letters", "rows_of",
]  # fmt: skip
"""A reading operation of a store."""

Result = TypeVar("Result")


class FaultyStore:
    """Passes everything on to another store, except where told to fail or to wait.

    ``calls`` counts what was asked of it by operation ("write", "load", …), failed or not;
    ``instances_written`` counts the entries of each instance that reached the inner store.
    ``inner`` is the store behind it, for a look past the faults.
    """

    def __init__(self, store: Store) -> None:
        self.inner = store
        self.name = f"{store.name}, with faults"
        self.calls: Counter[str] = Counter()
        self.instances_written: Counter[str] = Counter()
        self._before: list[Fault] = []
        self._after: list[Fault] = []
        self._left_out: list[Fault] = []
        self._reads: list[Fault] = []
        self._writes_gate = Gate()
        self._reads_gate = Gate()
        self._loads_gate = Gate()

    # What tests ask for

    def fail_writes(
        self,
        times: int = 1,
        *,
        after_commit: bool = False,
        instance: str | None = None,
        error: Exception | None = None,
    ) -> None:
        """Let the next writes fail: nothing written, or (``after_commit``) written all the same.

        ``instance`` ("Order/o-1") strikes only groups that hold an entry of it.
        """
        faults = self._after if after_commit else self._before
        faults.append(Fault(times, "write", instance, error or _failure("write")))

    def leave_out(self, instance: str, times: int = 1, *, error: StoreError | None = None) -> None:
        """Let the turns of an instance lose in the next groups, as by a ``SequenceConflict``.

        Their neighbours are written, as the protocol demands.
        """
        lost = error or SequenceConflict("the store was told to leave this turn out")
        self._left_out.append(Fault(times, "write", instance, lost))

    def fail_reads(
        self,
        times: int = 1,
        *,
        operation: Read | None = None,
        instance: str | None = None,
        error: Exception | None = None,
    ) -> None:
        """Let the next reads fail; of any operation, or of one; of any instance, or of one."""
        self._reads.append(Fault(times, operation, instance, error or _failure("read")))

    def fail_loads(
        self, times: int = 1, *, instance: str | None = None, error: Exception | None = None
    ) -> None:
        """Let the next rehydrations fail."""
        self.fail_reads(times, operation="load", instance=instance, error=error)

    def heal(self) -> None:
        """Forget all faults that have not struck yet. Gates stay as they are."""
        for faults in (self._before, self._after, self._left_out, self._reads):
            faults.clear()

    def hold_writes(self) -> None:
        """Let writes wait, before anything of them is written, until ``release``."""
        self._writes_gate.is_closed = True

    def hold_loads(self) -> None:
        """Let rehydrations wait until ``release``."""
        self._loads_gate.is_closed = True

    def hold_reads(self) -> None:
        """Let the *answers* of all other reads wait until ``release``: they grow old meanwhile."""
        self._reads_gate.is_closed = True

    async def held(self, count: int = 1) -> None:
        """Wait until so many writes stand at the gate (a runtime has one at a time)."""
        await self._writes_gate.reached(count)

    async def loads_held(self, count: int = 1) -> None:
        """Wait until so many rehydrations stand at the gate."""
        await self._loads_gate.reached(count)

    async def reads_held(self, count: int = 1) -> None:
        """Wait until so many other reads stand at the gate."""
        await self._reads_gate.reached(count)

    def let_through(self, count: int = 1) -> None:
        """Let so many of the held writes pass; the gate stays closed behind them."""
        self._writes_gate.let_through(count)

    def release(self) -> None:
        """Open all gates."""
        for gate in (self._writes_gate, self._loads_gate, self._reads_gate):
            gate.is_closed = False
            gate.let_through(len(gate.waiting))

    @property
    def writes(self) -> int:
        """How many writes were asked for."""
        return self.calls["write"]

    @property
    def queries(self) -> int:
        """How many calls of any kind, reads and writes, were made."""
        return self.calls.total()

    # The protocol

    async def open(self) -> int:
        """See ``Store.open``."""
        return await self.inner.open()

    async def close(self) -> None:
        """See ``Store.close``."""
        await self.inner.close()

    async def write(self, entries: Sequence[Entry]) -> Sequence[StoreError | None]:
        """See ``Store.write``."""
        self.calls["write"] += 1
        await self._writes_gate.passed()
        instances = [key_of(entry) for entry in entries]
        strike(self._before, "write", instances)
        lost = self._losers(entries)
        passed_on = [entry for entry, error in zip(entries, lost, strict=True) if error is None]
        answers = iter(await self.inner.write(passed_on))
        self.instances_written.update(map(key_of, passed_on))
        strike(self._after, "write", instances)
        return [next(answers) if error is None else error for error in lost]

    async def load(self, instances: Sequence[str]) -> Sequence[LoadedInstance]:
        """See ``Store.load``."""
        self.calls["load"] += 1
        await self._loads_gate.passed()
        strike(self._reads, "load", instances)
        return await self.inner.load(instances)

    async def journal(self, instance: str, after: int = 0, limit: int = 1000) -> list[JournalRow]:
        """See ``Store.journal``."""
        return await self._read(
            "journal", lambda: self.inner.journal(instance, after, limit), instance
        )

    async def snapshots(self, instance: str) -> list[SnapshotRow]:
        """See ``Store.snapshots``."""
        return await self._read("snapshots", lambda: self.inner.snapshots(instance), instance)

    async def heads(
        self,
        saga: str | None = None,
        status: Status | None = None,
        after: str = "",
        limit: int = 1000,
    ) -> list[HeadRow]:
        """See ``Store.heads``."""
        return await self._read("heads", lambda: self.inner.heads(saga, status, after, limit))

    async def find(self, query: HeadQuery) -> list[HeadRow]:
        """See ``Store.find``."""
        return await self._read("find", lambda: self.inner.find(query))

    async def count(self, query: HeadQuery) -> int:
        """See ``Store.count``."""
        return await self._read("count", lambda: self.inner.count(query))

    async def tallies(self) -> list[TallyRow]:
        """See ``Store.tallies``."""
        return await self._read("tallies", self.inner.tallies)

    async def tombstones(
        self, after: tuple[int, str] = (-1, ""), limit: int = 1000
    ) -> list[TombstoneRow]:
        """See ``Store.tombstones``."""
        return await self._read("tombstones", lambda: self.inner.tombstones(after, limit))

    async def size(self) -> int:
        """See ``Store.size``."""
        return await self._read("size", self.inner.size)

    async def deadlines(
        self, after: tuple[int, str, str] = (-1, "", ""), limit: int = 1000
    ) -> list[DeadlineRow]:
        """See ``Store.deadlines``."""
        return await self._read("deadlines", lambda: self.inner.deadlines(after, limit))

    async def inbox(self, after: int = 0, limit: int = 1000) -> list[InboxRow]:
        """See ``Store.inbox``."""
        return await self._read("inbox", lambda: self.inner.inbox(after, limit))

    async def inbox_due(
        self, after: tuple[int, str, str] = (-1, "", ""), limit: int = 1000
    ) -> list[InboxRow]:
        """See ``Store.inbox_due``."""
        return await self._read("inbox_due", lambda: self.inner.inbox_due(after, limit))

    async def outbox(
        self, after: int = 0, limit: int = 1000, queue: str | None = None
    ) -> list[OutboxRow]:
        """See ``Store.outbox``."""
        return await self._read("outbox", lambda: self.inner.outbox(after, limit, queue))

    async def jobs_ready(self, queue: str, now_ms: int, limit: int = 1000) -> list[OutboxRow]:
        """See ``Store.jobs_ready``."""
        return await self._read("jobs_ready", lambda: self.inner.jobs_ready(queue, now_ms, limit))

    async def jobs_due(self, after: tuple[int, int] = (0, 0), limit: int = 1000) -> list[OutboxRow]:
        """See ``Store.jobs_due``."""
        return await self._read("jobs_due", lambda: self.inner.jobs_due(after, limit))

    async def jobs_at(self, positions: Sequence[int]) -> list[OutboxRow]:
        """See ``Store.jobs_at``."""
        return await self._read("jobs_at", lambda: self.inner.jobs_at(positions))

    async def jobs_after(self, position: int) -> list[OutboxRow]:
        """See ``Store.jobs_after``."""
        return await self._read("jobs_after", lambda: self.inner.jobs_after(position))

    async def queues(self) -> list[QueueRow]:
        """See ``Store.queues``."""
        return await self._read("queues", self.inner.queues)

    async def queue_depths(self) -> dict[str, int]:
        """See ``Store.queue_depths``."""
        return await self._read("queue_depths", self.inner.queue_depths)

    async def backlog(self) -> Backlog:
        """See ``Store.backlog``."""
        return await self._read("backlog", self.inner.backlog)

    async def quarantines(self) -> list[QuarantineRow]:
        """See ``Store.quarantines``."""
        return await self._read("quarantines", self.inner.quarantines)

    async def inbox_sizes(self, instances: Sequence[str]) -> dict[str, int]:
        """See ``Store.inbox_sizes``."""
        return await self._read("inbox_sizes", lambda: self.inner.inbox_sizes(instances))

    async def dead_letters(self, after: int = 0, limit: int = 1000) -> list[DeadLetterRow]:
        """See ``Store.dead_letters``."""
        return await self._read("dead_letters", lambda: self.inner.dead_letters(after, limit))

    async def rows_of(self, instance: str, limit: int = 1000) -> InstanceRows:
        """See ``Store.rows_of``."""
        return await self._read("rows_of", lambda: self.inner.rows_of(instance, limit), instance)

    async def retried(self) -> dict[str, int]:
        """See ``Store.retried``."""
        return await self._read("retried", self.inner.retried)

    async def _read(
        self, operation: Read, read: Callable[[], Awaitable[Result]], *instances: str
    ) -> Result:
        self.calls[operation] += 1
        strike(self._reads, operation, instances)
        found = await read()
        await self._reads_gate.passed()
        return found

    def _losers(self, entries: Sequence[Entry]) -> list[StoreError | None]:
        """Per entry the error it is left out with. An instance that loses does so wholly."""
        turns = {key_of(entry) for entry in entries if isinstance(entry, TurnRecord)}
        lost: dict[str, StoreError] = {}
        for fault in self._left_out:
            if fault.strikes("write", turns):
                assert fault.instance is not None
                assert isinstance(fault.error, StoreError)
                lost[fault.instance] = fault.error
        return [
            lost.get(key_of(entry)) if isinstance(entry, TurnRecord) else None for entry in entries
        ]


def _failure(what: str) -> StoreUnavailable:
    return StoreUnavailable(f"the store was told to fail this {what}")
