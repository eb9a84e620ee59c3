"""A look into a store, beside a live runtime or after its end. Needs none of the user's code.

    async with Inspection("sqlite+aiosqlite:///orders.db") as look:
        async for one in look.instances("OrderFulfilment", status="stuck"):
            for reason in await look.why(one.saga, one.correlation_id):
                print(one.correlation_id, reason.text)

It opens the store read-only: it takes no lock, writes nothing, and holds no read open between two
calls, so that a live runtime is not disturbed. Given the user's sagas (``members``), it folds their
states, too. Next to read: ``foreign.py``, what can be known without; ``looked_at.py``, the values.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import replace

from perdure.codec import Codec, Limits
from perdure.codec.journal import JournalCodec
from perdure.core.commit import Status
from perdure.core.correlation import instance_key
from perdure.core.wait_facts import WaitingFor
from perdure.core.waiting import reasons
from perdure.errors import InstanceQuarantined
from perdure.messages import datetime_of
from perdure.ops import seeing
from perdure.ops.distant import DistantSight
from perdure.ops.foreign import LenientTypes
from perdure.ops.instance_reader import InstanceReader, Read
from perdure.ops.looked_at import (
    InstanceSeen,
    InstanceShown,
)
from perdure.ops.plain import to_plain
from perdure.ops.search import Wanted, find_heads
from perdure.ops.store_look import PAGE, StoreLook
from perdure.queue import WorkQueue
from perdure.runtime.clock import Clock, SystemClock
from perdure.runtime.definitions import Saga, definitions_of, types_of
from perdure.runtime.looking.agenda import (
    ScheduleView,
    schedule_view,
)
from perdure.runtime.looking.gathering_facts import gather
from perdure.runtime.looking.history import HistoryEntry, history
from perdure.runtime.looking.reading import Reader
from perdure.runtime.looking.then import At, checked_at
from perdure.runtime.looking.views import InstanceView, status_of, view_of
from perdure.settings import Settings
from perdure.store.protocol import Store
from perdure.store.urls import store_to_look_at

__all__ = ["Inspection"]

ROWS_MAX = 100
"""So many rows of a kind are shown of one instance."""

_ANY_SIZE = Limits(bytes_max=2**30, elements_max=2_000_000, depth_max=256)
"""Whatever limits its runtime had: what is shown is bounded by ``to_plain``."""


class Inspection(StoreLook):
    """Read-only looks at the store of a runtime, live or not.

        async with Inspection("sqlite+aiosqlite:///orders.db", members=[OrderFulfilment]) as look:
            shown = await look.show("OrderFulfilment", "o-1")
            print(shown.status, shown.state)

    ``store`` is a URL, or an open ``Store``, which stays open. ``members`` are sagas,
    as a runtime takes them; of others, states are shown as far as they can be. Ids are texts, as a
    listing shows them (``encode_id`` makes one of anything). All values are plain data.

    Raises ``DefinitionError`` for a URL that names nothing that lasts, and for what is no member.
    """

    def __init__(
        self,
        store: str | Store,
        *,
        members: Iterable[Saga | WorkQueue] = (),
        clock: Clock | None = None,
    ) -> None:
        opened: Store = store_to_look_at(store) if isinstance(store, str) else store
        listed = [one for one in members if not isinstance(one, WorkQueue)]
        definitions = definitions_of(listed)
        codec = Codec(types_of(definitions.values(), LenientTypes()), _ANY_SIZE)
        super().__init__(
            Reader(opened, Settings(), codec, JournalCodec(codec)), is_ours=isinstance(store, str)
        )
        self._instances = InstanceReader(self._reading, definitions)
        self._clock = clock or SystemClock()

    # Instances

    async def instances(
        self, saga: str | None = None, *, status: Status | str | None = None, after: str = ""
    ) -> AsyncIterator[InstanceSeen]:
        """Instances in the order of saga and id, of a status or any, read page by page.

        ``after`` is the id behind which to begin; without ``saga`` it is "saga/id".
        """
        wanted, aside = status_of(status), await self._asides()
        last = instance_key(saga, after) if saga is not None and after else after
        while True:
            heads = await self._store.heads(saga, wanted, last, PAGE)
            for row in heads:
                yield seeing.head(row, aside.get(row.instance))
            if len(heads) < PAGE:
                return
            last = heads[-1].instance

    async def find(self, wanted: Wanted, *, after: str = "") -> AsyncIterator[InstanceSeen]:
        """Instances by status, indexed fields and ages, behind "saga/id"; see ``search.py``.

        Raises ``DefinitionError`` for a field that has no index.
        """
        aside, now_ms = await self._asides(), self._clock.now_ms()
        async for row in find_heads(self._store, wanted, now_ms, after):
            yield seeing.head(row, aside.get(row.instance))

    async def show(self, saga: str, correlation_id: str) -> InstanceShown:
        """Everything about one instance; ``status`` is None if it does not exist."""
        key, reading = instance_key(saga, correlation_id), self._reading
        rows = await self._store.rows_of(key, ROWS_MAX)
        head = rows.head
        read, problem = await self._read(key)
        shown = InstanceShown(
            saga,
            correlation_id,
            None if head is None else head.status.value,
            rows.newest_nr,
            None if head is None else datetime_of(head.started_at_ms),
            None if head is None else datetime_of(head.updated_at_ms),
            deadlines={row.name: datetime_of(row.due_at_ms) for row in rows.deadlines},
            inbox=[seeing.waiting(reading, row) for row in rows.inbox],
            waiting=rows.waiting,
            jobs=[seeing.job(reading, row) for row in rows.jobs],
            dead_letters=[seeing.dead_letter(reading, row) for row in rows.dead_letters],
            quarantine=None
            if rows.quarantine is None
            else seeing.quarantine(rows.quarantine, rows.waiting),
            problem=problem,
        )
        return shown if read is None else self._with_state(shown, read)

    def _with_state(self, shown: InstanceShown, read: Read) -> InstanceShown:
        instance, family = read.instance, read.instance.family
        if not instance.exists:
            return shown
        view = self._view(read)
        return replace(
            shown,
            status=view.status.value,
            sequence_nr=view.sequence_nr,
            started_at=view.started_at,
            updated_at=view.updated_at,
            state=view.state,
            state_nr=read.state_nr,
            turns_after=0 if read.state_nr is None else view.sequence_nr - read.state_nr,
            result=view.result,
            failure=view.failure,
            purged=view.purged,
            parent="" if family is None else family.parent,
            children={} if family is None else dict(family.children),
        )

    async def state(
        self, saga: str, correlation_id: str, *, at: At | None = None
    ) -> InstanceView | None:
        """The instance as it is, or as it was; see ``Runtime.state``. Its state is plain data.

        Of a saga that needs its own code to fold, and is none of ``members``, the state is None.
        """
        key = instance_key(saga, correlation_id)
        if at is not None:
            at = checked_at(at, self._clock.now_ms())
            read = await self._instances.read_at(key, at)
        else:
            read = await self._instances.read(key)
        if read is None or not read.instance.exists:
            return None
        view = self._view(read)
        return view if read.state_nr == view.sequence_nr else replace(view, state=None)

    async def history(
        self, saga: str, correlation_id: str, *, after: int = 0
    ) -> AsyncIterator[HistoryEntry]:
        """The turns of an instance above a sequence number, oldest first, as plain data."""
        async for entry in history(self._reading, instance_key(saga, correlation_id), after):
            yield replace(
                entry,
                message=to_plain(entry.message),
                events=to_plain(entry.events),
                sent=[replace(one, content=to_plain(one.content)) for one in entry.sent],
                reply=to_plain(entry.reply),
            )

    async def why(self, saga: str, correlation_id: str) -> list[WaitingFor]:
        """Why an instance waits, the most important reason first; see ``Runtime.why_waiting``.

        Which workers are at work cannot be seen from here.
        """
        key = instance_key(saga, correlation_id)
        return reasons(await gather(self._reading, self._sight, key, self._clock.now_ms()))

    async def schedules(self) -> list[ScheduleView]:
        """The schedules that have ever been opened, by name; see ``Runtime.schedules``."""
        found = []
        for saga in await self.sagas():
            read, _ = await self._read(instance_key(saga, saga))
            view = None if read is None else schedule_view(read.instance)
            if view is not None:
                found.append(view)
        return found

    # Within

    @property
    def _sight(self) -> DistantSight:
        return DistantSight(self._reading, self._instances)

    async def _read(self, key: str) -> tuple[Read | None, str]:
        """The instance, or why it cannot be read."""
        try:
            return await self._instances.read(key), ""
        except InstanceQuarantined as error:
            return None, str(error.__cause__ or error.problem)

    def _view(self, read: Read) -> InstanceView:
        state = None if read.state_nr is None else to_plain(read.instance.state)
        view = view_of(self._reading.codec, read.instance, state)
        return replace(view, result=to_plain(view.result))
