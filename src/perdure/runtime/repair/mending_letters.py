"""Repairs of what has no turn to begin with: dead letters, and instances that are set aside.

Of a letter that belongs to an instance the repair is a turn of it, like others. Of one that belongs
to none that is there, and of a release before its turn, the log tells who did it and why.
Next to read: ``mending.py``; ``letters/redrive.py``, how letters are moved.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable
from typing import Any, Protocol

from perdure.core.commit import DeadLetterRow
from perdure.core.correlation import split_key
from perdure.core.instance import Instance
from perdure.core.intervention import Action
from perdure.core.saga import Definition
from perdure.errors import InstanceNotFound, NotRepairable
from perdure.runtime.delivery import Delivery, Receipt
from perdure.runtime.elsewhere import Errand
from perdure.runtime.instances.supervisor import Supervisor
from perdure.runtime.jobs.dispatcher import Dispatcher
from perdure.runtime.jobs.outbound import Outbound
from perdure.runtime.letters.letters import DeadLetter, owner_key
from perdure.runtime.letters.redrive import DeadLetters
from perdure.runtime.looking.views import Views
from perdure.runtime.repair.letter_measures import LetterMeasures
from perdure.runtime.repair.measures import Measure, Measures
from perdure.runtime.repair.mending import Mending
from perdure.runtime.repair.repairable import Repairable
from perdure.runtime.repair.repaired import Repaired
from perdure.runtime.repair.said import Said
from perdure.runtime.routing import Routing
from perdure.runtime.services import Services

__all__ = ["MendingLetters", "Parts", "repairs_of"]

logger = logging.getLogger("perdure.repair")


class Parts(Protocol):
    """The parts of a runtime that repairs need."""

    services: Services
    views: Views
    supervisor: Supervisor
    dispatcher: Dispatcher
    letters: DeadLetters

    def deliver(self, delivery: Delivery) -> Awaitable[Receipt]: ...


class MendingLetters:
    """Repairs dead letters, and releases."""

    def __init__(
        self,
        routing: Routing,
        views: Views,
        supervisor: Supervisor,
        letters: DeadLetters,
        mending: Mending,
        measures: LetterMeasures,
    ) -> None:
        self._routing = routing
        self._views = views
        self._supervisor = supervisor
        self._letters = letters
        self.mending = mending
        self._measures = measures

    def definition(self, saga: str) -> Definition:
        """Raises ``UnknownSaga``."""
        return self._routing.definition(saga)

    async def letter(
        self, action: Action, letter: DeadLetter | int, message: Any, said: Said
    ) -> Repaired:
        """Redrive or discard a letter."""
        letter_id = letter.id if isinstance(letter, DeadLetter) else letter
        row = await self._letters.row(letter_id)
        if row is None:
            raise NotRepairable(
                f"there is no dead letter {letter_id} any more",
                remedy="it was redriven, or discarded: see the history of its instance",
            )
        if (away := self.mending.away(owner_key(row))) is not None:
            arguments = (*said.fields, str(action), letter_id, message)
            repaired: Repaired = await away.run(Errand(owner_key(row), "repair letter", arguments))
            return repaired
        definition = self._routing.definitions.get(split_key(row.instance)[0])
        if definition is None or not await self._is_there(definition, row.instance):
            return await self._of_nobody(action, row, message, said)
        decide = self._measures.redrive if action is Action.REDRIVE else self._measures.discard
        about = (letter_id, message) if action is Action.REDRIVE else (letter_id,)
        return await self.mending.instance(definition, row.instance, said, decide, *about)

    async def _is_there(self, definition: Definition, key: str) -> bool:
        if key in self._supervisor.quarantine:
            return True
        found = await self._views.committed(definition, key)
        return found.exists and not found.is_purged

    async def _of_nobody(
        self, action: Action, row: DeadLetterRow, message: Any, said: Said
    ) -> Repaired:
        """No instance could tell of it: the log does."""
        saga, id_ = split_key(row.instance) if row.instance else ("", "")
        message = self.mending.measures.message_of(message)
        edited = ", edited" if message is not None else ""
        verb = "discarded" if action is Action.DISCARD else "redriven"
        text = f"dead letter {row.position} ({row.type}) is {verb}{edited}"
        done = Repaired(
            str(action),
            saga,
            id_,
            text,
            said.dry_run,
            jobs=(row.message_id,) if row.job else (),
            letters=(row.position,),
        )
        if said.dry_run:
            return done
        logger.warning("%s (%s): %s; it belongs to no instance here", said.by, said.why, text)
        if action is Action.DISCARD:
            is_done = await self._letters.discard(row.position)
        else:
            is_done = await self._letters.redrive_as(row.position, message)
        if not is_done:
            raise NotRepairable(
                f"dead letter {row.position} is gone meanwhile", remedy="somebody else was faster"
            )
        return done

    # Releasing

    async def release(self, saga: str, key: str, said: Said) -> Repaired:
        """Release an instance; then it has a turn that says so."""
        if (away := self.mending.away(key)) is not None:
            how = said.under(self.mending.new_id).fields
            repaired: Repaired = await away.run(Errand(key, "repair release", (*how, saga)))
            return repaired
        definition, quarantine = self.definition(saga), self._supervisor.quarantine
        _, id_ = split_key(key)
        error = quarantine.error_of(key)
        if error is None:
            known = await self.mending.done_before(definition, key, said)
            if known is not None:
                return known
            exists = (await self._views.committed(definition, key)).exists
            raise NotRepairable(
                "it is not quarantined" if exists else "there is no such instance",
                saga=saga,
                correlation_id=id_,
                remedy="runtime.quarantined() lists those that are",
            )
        text = f"released; {error.problem}"
        if said.dry_run:
            return Repaired(str(Action.RELEASE), saga, id_, text, True)
        logger.warning("%s: %s (%s) releases it: %s", key, said.by, said.why, error.problem)
        await quarantine.release(definition, key)

        async def decide(definition: Definition, instance: Instance) -> Measure:
            return Measure(Action.RELEASE, text)

        try:
            return await self.mending.instance(definition, key, said, decide)
        except InstanceNotFound:  # what it holds may start it yet
            return Repaired(str(Action.RELEASE), saga, id_, text, False)


def repairs_of(parts: Parts, routing: Routing, outbound: Outbound) -> MendingLetters:
    """What repairs the instances of a runtime with these parts."""
    services, rows = parts.services, Repairable(parts.services)
    measures = Measures(services, routing, parts.views, rows)
    views, supervisor, letters = parts.views, parts.supervisor, parts.letters
    mending = Mending(
        services,
        routing,
        views,
        supervisor,
        parts.dispatcher,
        letters,
        measures,
        parts.deliver,
    )
    of_letters = LetterMeasures(
        services, outbound, parts.dispatcher, supervisor, letters, rows, measures
    )
    return MendingLetters(routing, views, supervisor, letters, mending, of_letters)
