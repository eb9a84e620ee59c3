"""What a service asks about many instances at once: find them, count them, index them.

    async for order in runtime.find(OrderFulfilment, status="stuck", where={"customer_id": "c-1"}):
        print(order.correlation_id, order.failure)

Next to read: ``finding.py``, ``reindexing.py``; ``runtime.py``, whose part this is.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from perdure.core.commit import Status
from perdure.core.criteria import Criteria, Span, field_tests, named, statuses_of
from perdure.core.outgoing import milliseconds
from perdure.core.routes import route_of
from perdure.core.tally import TallyRow
from perdure.errors import InvalidQuery
from perdure.messages import milliseconds_of
from perdure.runtime.definitions import Saga
from perdure.runtime.lifecycle import Lifecycle
from perdure.runtime.looking.finding import Search, found, place_after
from perdure.runtime.looking.reindexing import reindex
from perdure.runtime.looking.views import InstanceView

__all__ = ["SagaCounts", "Searching"]

_ORDERS = ("id", "started", "updated")


@dataclass(frozen=True, slots=True)
class SagaCounts:
    """How many instances of a saga have started, completed and failed ever, and stand so now.

    ``started``, ``completed`` and ``failed`` never fall, also where instances are deleted later.
    ``average_duration`` is over those that completed, None as long as none has.
    """

    started: int = 0
    completed: int = 0
    failed: int = 0
    running: int = 0
    stuck: int = 0
    average_duration: timedelta | None = None

    @property
    def active(self) -> int:
        """Those that have not ended, in memory or not."""
        return self.running + self.stuck


class Searching(Lifecycle):
    """Questions about many instances, and what makes them quick."""

    def find(
        self,
        saga: Saga | str,
        *,
        status: Status | str | Iterable[Status | str] | None = None,
        where: Mapping[str, Any] | None = None,
        started_after: datetime | None = None,
        started_before: datetime | None = None,
        updated_after: datetime | None = None,
        updated_before: datetime | None = None,
        older_than: timedelta | None = None,
        idle_for: timedelta | None = None,
        order_by: str | None = None,
        descending: bool = False,
        after: InstanceView | str | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[InstanceView]:
        """Instances of a saga, in memory or not, read page by page. All that is asked must hold.

            async for order in runtime.find(
                OrderFulfilment,
                status=["running", "stuck"],
                where={"customer_id": "c-1", "amount": Between(100, None)},
                idle_for=timedelta(days=2),
            ):

        ``where``: fields declared as ``Indexed``, each with a value, a list of values of which it
        is one, or ``Between(low, high)``. ``…_after`` a moment includes it, ``…_before`` does not;
        ``older_than``: started longer ago, ``idle_for``: no turn for that long (an instance that
        has ended counts from its end). ``order_by``: "id", "started", "updated" (to the minute) or
        an indexed field (its first 199 characters); None is the order in which the answer comes
        quickest: by id for a value, else by what a range is given for. ``after``: an instance found
        before, or its ``cursor``, from where to go on.

        What is shown is committed and fits, at the moment it is shown; what changes meanwhile may
        be shown or not. An order other than the quickest looks at every instance on its way.
        Raises ``UnknownSaga``, ``InvalidQuery``; ``NotIndexed`` when iterated, see ``reindex``.
        """
        definition = self._blueprint.routing.definition(saga)
        running = self._on_loop()
        now_ms = running.services.clock.now_ms()
        if order_by is not None and order_by not in _ORDERS:
            named(definition.indexed, order_by)
        criteria = Criteria(
            definition.name,
            statuses_of(status),
            field_tests(definition.indexed, where),
            _span("started", started_after, started_before, "older_than", older_than, now_ms),
            _span("updated", updated_after, updated_before, "idle_for", idle_for, now_ms),
        )
        route = route_of(criteria, order_by, bool(descending))
        place = place_after(route, definition.name, after)
        search = Search(definition, criteria, route, place, _checked_limit(limit))
        return found(running.services.store, running.views, search)

    async def counts(self, saga: Saga | str | None = None) -> dict[str, SagaCounts]:
        """How many instances there are and were, by saga; of one saga, or of all.

            for name, counts in (await runtime.counts()).items():
                print(name, counts.active, counts.failed, counts.average_duration)

        Of all that this runtime runs or its store knows. Reads one row per saga. Raises
        ``UnknownSaga``, ``StoreError``.
        """
        running, routing = self._on_loop(), self._blueprint.routing
        tallies = {tally.saga: tally for tally in await running.services.store.tallies()}
        if saga is not None:
            name = routing.definition(saga).name
            return {name: _counts(tallies.get(name, TallyRow(name)))}
        names = sorted({*routing.definitions, *tallies})
        return {name: _counts(tallies.get(name, TallyRow(name))) for name in names}

    async def reindex(self, saga: Saga | str) -> int:
        """Index the instances of a saga by what their state says now; how many were.

            await runtime.reindex(OrderFulfilment)    # after a field was declared as Indexed

        Goes through all of them in small steps beside live work, and may be repeated, or begun
        again after a restart. Instances that cannot be read are named in the log and passed over.
        Raises ``UnknownSaga``, ``StoreError``.
        """
        definition = self._blueprint.routing.definition(saga)
        running = self._on_loop()
        elsewhere = running.services.elsewhere
        if elsewhere is not None and elsewhere.owns_nothing:
            return sum(await elsewhere.run_everywhere("reindex", definition.name))
        return await reindex(running.services, running.supervisor, definition)


def _span(
    what: str,
    after: datetime | None,
    before: datetime | None,
    name: str,
    longer: timedelta | None,
    now_ms: int,
) -> Span:
    low, high = _moment(f"{what}_after", after), _moment(f"{what}_before", before)
    if longer is not None:
        if not isinstance(longer, timedelta) or longer < timedelta(0):
            raise InvalidQuery(f"{name}={longer!r}", remedy="give a timedelta, not below zero")
        latest = now_ms - milliseconds(longer)
        high = latest if high is None else min(high, latest)
    if low is not None and high is not None and low >= high:
        raise InvalidQuery(f"no moment is as {what}… asks for", remedy="give the earlier as after")
    return Span(low, high)


def _moment(name: str, at: datetime | None) -> int | None:
    if at is None:
        return None
    if not isinstance(at, datetime):
        raise InvalidQuery(f"{name}={at!r} is no datetime", remedy="give an aware datetime")
    if at.utcoffset() is None:
        raise InvalidQuery(
            f"{name}={at} has no time zone", remedy="give an aware datetime, such as in UTC"
        )
    return milliseconds_of(at)


def _checked_limit(limit: int | None) -> int | None:
    if limit is None or (type(limit) is int and limit > 0):
        return limit
    raise InvalidQuery(f"limit={limit!r}", remedy="give a number above zero, or None for all")


def _counts(tally: TallyRow) -> SagaCounts:
    average = None
    if tally.completed:
        average = timedelta(milliseconds=tally.duration_ms // tally.completed)
    return SagaCounts(
        tally.started, tally.completed, tally.failed, tally.running, tally.stuck, average
    )
