"""Instances that are set aside: what arrives for them is kept, in order, until they are released.

Their keys are in memory from the start on, one small object each; their messages are in the inbox
only. Deadlines stay armed and fire after the release. Nobody else is touched.

    set aside ──release──> rehydrating ──> active, and the row goes in its first commit
        ^                      │
        └── cannot be had ─────┘

Part of the supervisor, apart for its length. Next to read: ``holding.py``, how a message
is kept; ``failing.py`` and ``rehydration.py``, which say who is set aside.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from perdure.core.commit import QuarantineRow
from perdure.core.correlation import split_key
from perdure.core.described import in_short, storable
from perdure.core.outcome import Outcome
from perdure.core.saga import Definition
from perdure.errors import (
    CodecError,
    CorruptRecord,
    InstanceQuarantined,
    PerdureError,
    RuntimeNotRunning,
)
from perdure.messages import datetime_of
from perdure.observer import Quarantined, Released
from perdure.runtime.delivery import Delivery
from perdure.runtime.elsewhere import Errand
from perdure.runtime.instances.holding import Aside
from perdure.runtime.watching.logs import about

if TYPE_CHECKING:
    from perdure.runtime.instances.supervisor import Supervisor

__all__ = ["Quarantine", "QuarantinedInstance", "is_answered_at_once"]

logger = logging.getLogger("perdure.supervisor")

PAGE = 100
FEW = 5
ERROR_CHARS_MAX = 500

_UNREADABLE = ("corrupt", "undecodable", "replay")
"""Set aside for what rows and code are together, not for what a handler did with a message."""


@dataclass(frozen=True, slots=True)
class QuarantinedInstance:
    """An instance that is set aside. ``held`` messages wait in its inbox.

    ``reason``: "failed" (its supervision says so at the first failure), "restarts" (it was
    restarted too often), "corrupt" (its rows are damaged), "undecodable" (this code does not know
    a type or version in them), "replay" (``apply`` raises), "unknown" (the row that said is itself
    damaged). ``error`` is why, in a line.
    """

    saga: str
    correlation_id: str
    reason: str
    error: str
    since: datetime
    held: int


class Quarantine:
    """Holds what comes for instances that are set aside, and releases them."""

    def __init__(self, supervisor: Supervisor) -> None:
        self.asides: dict[str, Aside] = {}
        self._supervisor = supervisor
        self._services = supervisor.services
        self._releases: dict[str, tuple[asyncio.Future[None], QuarantineRow]] = {}
        self._doubts: set[str] = set()

    async def load(self) -> None:
        """Learn who is set aside; before anything is delivered."""
        for row in await self._services.store.quarantines():
            self.asides[row.instance] = Aside(self._supervisor, row, is_written=True)
        if self.asides:
            few = ", ".join(sorted(self.asides)[:FEW])
            logger.warning(
                "quarantined: %d (%s%s); runtime.quarantined() lists them with their reasons",
                len(self.asides), few, ", …" if len(self.asides) > FEW else "",
            )  # fmt: skip

    def read_again(self, definitions: Mapping[str, Definition]) -> None:
        """Release those that could not be read: this runtime's code may know them, or somebody
        has mended their rows. Who still cannot be read stays as it was."""
        for key, aside in list(self.asides.items()):
            definition = definitions.get(split_key(key)[0])
            if definition is not None and aside.row.reason in _UNREADABLE:
                self._begin_release(aside, definition)

    # Who is set aside

    def __contains__(self, key: str) -> bool:
        return key in self.asides

    def begin(self, row: QuarantineRow, *, is_written: bool) -> None:
        """The instance is set aside from now on."""
        or_else = "" if row.reason != "undecodable" else "code that knows it takes over, or "
        logger.error(
            "%s is quarantined (%s): %s; its messages are kept until %sruntime.release(ref)",
            row.instance, row.reason, row.error, or_else,
            extra=about(row.instance),
        )  # fmt: skip
        aside = self.asides[row.instance] = Aside(self._supervisor, row, is_written)
        self._supervisor.restarts.forget(row.instance)
        self._supervisor.endings.stirred(row.instance)
        aside.go_on()

    def tell_begun(self, row: QuarantineRow) -> None:
        """Tell whoever observes that an instance is set aside that was not, or not for this."""
        observing = self._services.observing
        if observing.hooks:
            observing.tell(Quarantined(*split_key(row.instance), row.reason))

    def not_rehydrated(self, key: str, error: Exception) -> bool:
        """An incarnation could not be had; True if its instance is set aside now."""
        release = self._releases.pop(key, None)
        if isinstance(error, InstanceQuarantined):
            cause = error.__cause__ or error
            now_ms = self._services.clock.now_ms()
            row = QuarantineRow(key, _reason_of(cause), _line_of(cause), now_ms)
            before = None if release is None else release[1]
            is_as_before = before is not None and _why(before) == _why(row)
            self.begin(before if before and is_as_before else row, is_written=is_as_before)
            if not is_as_before:
                self.tell_begun(row)
        elif release is not None:
            # Nothing has changed: the row is there.
            self.asides[key] = Aside(self._supervisor, release[1], is_written=True)
        if release is not None:
            _fail(release[0], error)
        return key in self.asides

    def error_of(self, key: str) -> InstanceQuarantined | None:
        """Why the instance is set aside; None if it is not."""
        aside = self.asides.get(key)
        return None if aside is None else _error_of(aside.row)

    async def error_at(self, key: str) -> InstanceQuarantined | None:
        """The same, also of an instance that another runtime owns: as its row says."""
        if self._services.away(key) is None:
            return self.error_of(key)
        row = (await self._services.store.rows_of(key, 1)).quarantine
        return None if row is None else _error_of(row)

    async def errors_of(self, keys: Sequence[str]) -> dict[str, InstanceQuarantined]:
        """Why some of these are set aside; for a front also those that other runtimes own."""
        stored = await self._stored()
        rows = {key: aside.row for key in keys if (aside := self.asides.get(key)) is not None}
        rows |= {key: stored[key] for key in keys if key in stored}
        return {key: _error_of(row) for key, row in rows.items()}

    async def listed(self, saga: str | None) -> AsyncIterator[QuarantinedInstance]:
        """Those of a saga, or all, in the order of their keys."""
        stored = await self._stored()
        keys = [key for key in sorted(stored or self.asides) if saga in (None, split_key(key)[0])]
        for at in range(0, len(keys), PAGE):
            page = keys[at : at + PAGE]
            held = await self._services.store.inbox_sizes(page)
            for key in page:
                aside = self.asides.get(key)
                row = stored.get(key) if aside is None else aside.row
                if row is not None:
                    since = datetime_of(row.since_ms)
                    yield QuarantinedInstance(
                        *split_key(key), row.reason, row.error, since, held.get(key, 0)
                    )

    async def _stored(self) -> dict[str, QuarantineRow]:
        """Those of all owners, for a front, which knows none by itself."""
        elsewhere = self._services.elsewhere
        if elsewhere is None or not elsewhere.owns_nothing:
            return {}
        return {row.instance: row for row in await self._services.store.quarantines()}

    # What comes for them

    def hold(self, delivery: Delivery) -> None:
        """Keep a message for later. What time brings comes again after the release."""
        aside = self.asides[delivery.key]
        error = self.error_of(delivery.key)
        if error is not None and (delivery.deadline_nr or delivery.wakes or delivery.repair):
            delivery.refuse(error)
        elif delivery.waits or delivery.asks_again:
            delivery.answer(Outcome.HELD)  # it is in the inbox already
        else:
            aside.hold(delivery)

    # Release

    async def release(self, definition: Definition, key: str) -> bool:
        """Let the instance live again; False if it is not set aside.

        Raises ``InstanceQuarantined`` if it cannot be rehydrated, ``StoreError`` if it cannot be
        read now: it is set aside as before then.
        """
        if (away := self._services.away(key)) is not None:
            return bool(await away.run(Errand(key, "release", (definition.name,))))
        under_way = self._releases.get(key)
        if under_way is None:
            aside = self.asides.get(key)
            if aside is None:
                return False
            under_way = self._begin_release(aside, definition)
        await asyncio.shield(under_way[0])
        return True

    def _begin_release(
        self, aside: Aside, definition: Definition
    ) -> tuple[asyncio.Future[None], QuarantineRow]:
        released: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        under_way = self._releases[aside.row.instance] = (released, aside.row)
        aside.releases = definition
        aside.go_on()
        return under_way

    def is_lifted_by(self, key: str) -> bool:
        """The next incarnation ends the quarantine: it is released, or was not begun for sure."""
        return key in self._releases or key in self._doubts

    def doubt(self, key: str) -> None:
        """Whether it was set aside is unknown: it is to live, and perhaps to fail again."""
        self._doubts.add(key)

    def lifted(self, key: str) -> None:
        """The instance is not set aside any more, durably."""
        self._doubts.discard(key)
        release = self._releases.pop(key, None)
        if release is not None:
            logger.info("%s is released from its quarantine", key, extra=about(key))
            if self._services.observing.hooks:
                self._services.observing.tell(Released(*split_key(key)))
            if not release[0].done():
                release[0].set_result(None)

    def still(self, aside: Aside) -> None:
        """Nothing of one that is to be released is on its way to the store any more."""
        definition, key = aside.releases, aside.row.instance
        if definition is not None and self.asides.get(key) is aside:
            del self.asides[key]
            left = aside.left()
            self._supervisor.revive(definition, key)
            for delivery in left:
                self._supervisor.deliver(delivery)

    # Ending

    def resume(self) -> None:
        """The runtime stops: nothing waits for another try any more."""
        for aside in list(self.asides.values()):
            aside.resume()

    def close(self) -> None:
        """Answer whoever still waits."""
        for aside in self.asides.values():
            for delivery in aside.left():
                self._supervisor.deliver(delivery)  # which refuses it: the runtime is closed
        for released, _ in self._releases.values():
            problem = "the runtime stopped before the instance was released"
            _fail(released, RuntimeNotRunning(problem, remedy="release it again"))
        self._releases.clear()


def is_answered_at_once(delivery: Delivery) -> bool:
    """Nothing has to be written to hold it: time brings it again, or it is in the inbox."""
    return bool(delivery.deadline_nr or delivery.wakes or delivery.waits)


def _error_of(row: QuarantineRow) -> InstanceQuarantined:
    saga, correlation_id = split_key(row.instance)
    return InstanceQuarantined(
        f"the instance is quarantined ({row.reason}): {row.error}",
        saga=saga,
        correlation_id=correlation_id,
        remedy="see to the cause, then release it: await runtime.release(ref)",
    )


def _why(row: QuarantineRow) -> tuple[str, str]:
    return row.reason, row.error


def _reason_of(cause: BaseException) -> str:
    if isinstance(cause, CorruptRecord):
        return "corrupt"
    return "undecodable" if isinstance(cause, CodecError) else "replay"


def _line_of(cause: BaseException) -> str:
    """Why, without whom it is about: that is said beside it."""
    if not isinstance(cause, PerdureError):
        return in_short(cause)
    said = PerdureError(f"{type(cause).__name__}: {cause.problem}", remedy=cause.remedy)
    return storable(str(said).replace("\n", " ")[:ERROR_CHARS_MAX])


def _fail(released: asyncio.Future[None], error: Exception) -> None:
    if not released.done():
        released.set_exception(error)
        released.exception()  # whoever asked may have gone
