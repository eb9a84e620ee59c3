"""What is to be done for the repair of a dead letter that belongs to an instance.

As ``measures.py``, for redriving and discarding. Next to read: ``mending_letters.py``.
"""

from __future__ import annotations

from typing import Any

from perdure.core.commit import DeadLetterRow, OutboxRow
from perdure.core.correlation import VerdictKind
from perdure.core.instance import Instance
from perdure.core.intervention import Action
from perdure.core.saga import Definition
from perdure.errors import InstanceFinished, NotRepairable
from perdure.runtime.instances.rehydration import processed_in
from perdure.runtime.instances.supervisor import Supervisor
from perdure.runtime.jobs.dispatcher import Dispatcher
from perdure.runtime.jobs.outbound import Outbound
from perdure.runtime.letters.redrive import DeadLetters
from perdure.runtime.repair.awaited_steps import is_step
from perdure.runtime.repair.measures import Measure, Measures
from perdure.runtime.repair.repairable import Repairable
from perdure.runtime.services import Services

__all__ = ["LetterMeasures"]


class LetterMeasures:
    """Decides for the dead letters of one runtime."""

    def __init__(
        self,
        services: Services,
        outbound: Outbound,
        dispatcher: Dispatcher,
        supervisor: Supervisor,
        letters: DeadLetters,
        rows: Repairable,
        measures: Measures,
    ) -> None:
        self._services = services
        self._outbound = outbound
        self._dispatcher = dispatcher
        self._supervisor = supervisor
        self._letters = letters
        self._rows = rows
        self._measures = measures

    async def discard(self, definition: Definition, instance: Instance, letter_id: int) -> Measure:
        """It is thrown away."""
        row = await self._there(letter_id)
        text = f"dead letter {letter_id} ({row.type}) is discarded: {_in_line(row.error)}"
        return Measure(Action.DISCARD, text, row.message_id, letters=[(row, None)])

    async def redrive(
        self, definition: Definition, instance: Instance, letter_id: int, edited: Any
    ) -> Measure:
        """It goes on its way again, as it is or edited."""
        row = await self._there(letter_id)
        if row.job:
            return self._command(definition, instance, row, edited)
        return await self._message(definition, instance, row, edited)

    def _command(
        self, definition: Definition, instance: Instance, row: DeadLetterRow, edited: Any
    ) -> Measure:
        job = self._dispatcher.adoption.adopted(self._rows.job_of(row))
        command = self._rows.command_of(job)
        if instance.status.is_over and is_step(command):
            raise InstanceFinished(
                f"it has {instance.status}: nobody waits for the step any more",
                remedy="restart it from the step, or discard the letter",
            )
        measure = Measure(Action.REDRIVE, f"command {row.message_id} is queued again")
        if edited is not None:
            job = self._changed(definition, job, command, edited)
            measure.commands = (self._rows.command_of(job),)
            measure.text += ", edited"
        measure.about, measure.letters = row.message_id, [(row, job)]
        return measure

    def _changed(
        self, definition: Definition, job: OutboxRow, command: Any, edited: Any
    ) -> OutboxRow:
        repairs = definition.repairs
        if repairs is not None and command is not None and repairs.step_of(command):
            return self._rows.changed(job, repairs.edited(command, edited))
        edited = self._measures.message_of(edited)
        job = self._rows.changed(job, edited)
        job.target = self._outbound.address(edited, None)
        return job

    async def _message(
        self, definition: Definition, instance: Instance, row: DeadLetterRow, edited: Any
    ) -> Measure:
        services = self._services
        found = services.journal.decode_waiting(row.message_id, row.body)
        resident = self._supervisor.active.get(instance.key)
        nr = await processed_in(services, resident, definition, instance.key, row.message_id)
        if nr is not None:
            raise NotRepairable(
                f"{row.type} is in turn {nr} already, and is not taken twice",
                remedy="discard the letter; to have it again, send it",
            )
        if instance.status.is_over:
            raise InstanceFinished(
                f"it has {instance.status}, and takes {row.type} no more",
                remedy="start another one, and discard the letter",
            )
        content, kind, text = found.message.content, VerdictKind(found.kind), ""
        if edited is not None:
            content, text = self._measures.message_of(edited), ", edited"
            kind = self._measures.kind(definition, instance, content)
        return Measure(
            Action.REDRIVE,
            f"message {row.message_id} ({row.type}) is taken{text}",
            row.message_id,
            content,
            kind=kind,
            letters=[(row, None)],
            origin=found.message,
        )

    async def _there(self, letter_id: int) -> DeadLetterRow:
        row = await self._letters.row(letter_id)
        if row is None:
            raise NotRepairable(
                f"there is no dead letter {letter_id} any more",
                remedy="it was redriven, or discarded: see the history",
            )
        return row


def _in_line(error: str) -> str:
    """The last line of an error chain: the error itself."""
    return error.strip().rpartition("\n")[2]
