"""What is to be done for a repair, decided by how an instance stands and what belongs to it.

Reads, and decides; changes nothing. Each measure is one turn, with the rows that go with it. What
does not fit is refused here, with what can be done instead. Next to read: ``repair.py``, which
carries a measure out; ``core/repairs.py``, whom sagas with steps are asked by.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from perdure.core.commit import DeadLetterRow, InboxRow, OutboxRow, Settlement, Status
from perdure.core.correlation import VerdictKind
from perdure.core.instance import Instance
from perdure.core.intervention import Action
from perdure.core.repairs import Meant, Repairs
from perdure.core.saga import Definition
from perdure.core.step_events import Resume
from perdure.errors import InstanceFinished, InvalidResult, NotRepairable
from perdure.messages import CommandFailed, ExternalEvent, Message, type_info_of
from perdure.runtime.looking.history import history
from perdure.runtime.looking.views import Views
from perdure.runtime.repair.repairable import Repairable
from perdure.runtime.routing import Routing
from perdure.runtime.services import Services

__all__ = ["Measure", "Measures", "finished"]


@dataclass(slots=True)
class Measure:
    """One repair as it is to be written.

    ``jobs`` are those it concerns, each with the row that takes its place (None: it goes);
    ``letters`` go, each with the job that is put back for it, if any. ``waiting`` are messages
    whose rows change. ``kind`` is the verdict on the content; ``origin`` the message it was, under
    whose id the turn is taken.
    """

    action: Action
    text: str
    about: str = ""
    content: Any = None
    commands: tuple[Any, ...] = ()
    at: datetime | None = None
    kind: VerdictKind = VerdictKind.CONTINUE
    jobs: list[tuple[OutboxRow, OutboxRow | None]] = field(default_factory=list)
    letters: list[tuple[DeadLetterRow, OutboxRow | None]] = field(default_factory=list)
    waiting: list[InboxRow] = field(default_factory=list)
    origin: Message | None = None

    def settlements(self, key: str) -> tuple[Settlement, ...]:
        """The rows that are written with the turn."""
        found = [
            Settlement(key, job=row.position, outbox=() if put is None else (put,))
            for row, put in self.jobs
        ]
        found += [
            Settlement(key, letter=letter.position, outbox=() if put is None else (put,))
            for letter, put in self.letters
        ]
        found += [Settlement(key, inbox=row) for row in self.waiting]
        return tuple(found)


class Measures:
    """Decides for the instances of one runtime."""

    def __init__(
        self, services: Services, routing: Routing, views: Views, rows: Repairable
    ) -> None:
        self._services = services
        self._routing = routing
        self._views = views
        self._rows = rows

    async def retry(self, definition: Definition, instance: Instance) -> Measure:
        """Whatever waits for its next attempt has it now; what it is stuck at is tried again."""
        now_ms, key, said = self._services.clock.now_ms(), instance.key, []
        measure = Measure(Action.RETRY, "")
        for row in await self._rows.jobs(key):
            if row.attempts and row.due_at_ms > now_ms:
                measure.jobs.append((row, replace(row, due_at_ms=now_ms)))
                said.append(f"{self._named(definition, row)} after attempt {row.attempts}")
        for waiting in await self._rows.delayed(key):
            if waiting.due_at_ms is not None and waiting.due_at_ms > now_ms:
                measure.waiting.append(replace(waiting, due_at_ms=now_ms, replaces=True))
                said.append(f"message {waiting.message_id} after attempt {waiting.attempts}")
        repairs = definition.repairs
        if instance.status is Status.STUCK and repairs is not None:
            measure.content = Resume()
            said.append(f"what it was stuck at: {instance.detail!s}")
            letters = await self._rows.letters(key)
            found = self._rows.letters_of_steps(letters, lambda one: bool(repairs.step_of(one)))
            measure.letters = [(letter, None) for letter in found]
        if not said:
            raise NotRepairable(
                f"it is {instance.status}, and nothing of it waits for another attempt",
                remedy=_redrive(await self._rows.letters(key)) or _can(instance, definition),
            )
        measure.text = f"tried again now: {'; '.join(said)}"
        return measure

    def _named(self, definition: Definition, row: OutboxRow) -> str:
        repairs = definition.repairs
        step = "" if repairs is None else repairs.step_of(self._rows.command_of(row))
        return f"step {step!r}" if step else f"{row.type} ({row.id})"

    async def skip(self, definition: Definition, instance: Instance, step: str) -> Measure:
        """It goes on without the step."""
        repairs = _repairs(definition, "skipped")
        meant = repairs.skip(instance.state, step, instance.status.is_over)
        measure = Measure(Action.SKIP, meant.text, step)
        await self._take_away(measure, repairs, instance.key, meant.steps)
        return measure

    async def mark_done(
        self, definition: Definition, instance: Instance, about: str, result: Any
    ) -> Measure:
        """Somebody has done the step, or the command."""
        repairs = definition.repairs
        if repairs is None:
            return await self._command_done(definition, instance, about, result)
        step = await self._step_named(repairs, instance, about)
        meant = self._by_hand(repairs, instance, step, result)
        measure = Measure(Action.MARK_DONE, meant.text, step, meant.content)
        await self._take_away(measure, repairs, instance.key, meant.steps)
        return measure

    def _by_hand(self, repairs: Repairs, instance: Instance, step: str, result: Any) -> Meant:
        state, is_over = instance.state, instance.status.is_over
        try:
            return repairs.mark_done(state, step, result, is_over)
        except InvalidResult:
            # Whoever has no classes, such as a command line, names the message it returns.
            if not isinstance(result, Mapping) or "type" not in result:
                raise
            return repairs.mark_done(state, step, self.message_of(result), is_over)

    async def _step_named(self, repairs: Repairs, instance: Instance, about: str) -> str:
        """By its name, or by the id of its command."""
        if "/" in about:
            for row in await self._all_jobs(instance.key):
                if row.id == about:
                    return repairs.step_of(self._rows.command_of(row)) or about
        return about

    async def _all_jobs(self, key: str) -> list[OutboxRow]:
        letters = await self._rows.letters(key)
        dead = [self._rows.job_of(letter) for letter in letters if letter.job]
        return [*await self._rows.jobs(key), *dead]

    async def _command_done(
        self, definition: Definition, instance: Instance, command_id: str, result: Any
    ) -> Measure:
        jobs = [row for row in await self._rows.jobs(instance.key) if row.id == command_id]
        letters = await self._rows.letters(instance.key)
        dead = [one for one in letters if one.job and one.message_id == command_id]
        if not jobs and not dead:
            open_ = ", ".join(row.id for row in await self._all_jobs(instance.key))
            raise NotRepairable(
                f"no command {command_id!r} of it waits, or is a dead letter",
                remedy=f"there is {open_}" if open_ else "all it has sent is done",
            )
        if instance.status.is_over and result is not None:
            raise finished(instance)
        if result is not None:
            result = self.message_of(result)
        given = "without a result" if result is None else f"with {type(result).__name__}"
        measure = Measure(
            Action.MARK_DONE, f"command {command_id} was done by hand, {given}", command_id, result
        )
        if result is not None:
            measure.kind = self.kind(definition, instance, result)
        measure.jobs = [(row, None) for row in jobs]
        measure.letters = [(letter, None) for letter in dead]
        return measure

    async def send(self, definition: Definition, instance: Instance, message: Any) -> Measure:
        """As if the message had come."""
        if instance.status.is_over:
            raise finished(instance)
        message = self.message_of(message)
        kind = self.kind(definition, instance, message)
        return Measure(Action.SEND, f"sent {_name(message)}", _name(message), message, kind=kind)

    async def cancel(self, definition: Definition, instance: Instance) -> Measure:
        """It shall not go on."""
        if instance.status.is_over:
            raise finished(instance)
        return Measure(Action.CANCEL, "cancelled")

    async def compensate(self, definition: Definition, instance: Instance) -> Measure:
        """What it has done is undone, latest first, and it fails."""
        if instance.status.is_over:
            raise finished(instance)
        if definition.repairs is not None:
            meant = definition.repairs.compensate(instance.state)
            return Measure(Action.COMPENSATE, meant.text)
        found = await self._sent(definition, instance.key)
        if not found:
            declared = ", ".join(kind.__name__ for kind in definition.compensated)
            raise NotRepairable(
                "it has sent no command that it declares a compensation for",
                remedy=f"it declares them for {declared}" if declared else "cancel it",
            )
        commands = tuple(reversed(found.values()))
        said = ", ".join(type(one).__name__ for one in commands)
        text = f"made up for, latest first: {said}; then it has failed"
        measure = Measure(Action.COMPENSATE, text, commands=commands)
        # One that waits may have been tried. It must not have its effect after it was made up for.
        waiting = [row for row in await self._rows.jobs(instance.key) if row.id in found]
        measure.jobs = [(row, None) for row in waiting]
        if waiting:
            measure.text += f"; not tried again: {', '.join(row.id for row in waiting)}"
        return measure

    async def _sent(self, definition: Definition, key: str) -> dict[str, Any]:
        """The commands that may be made up for and were not, by their ids, oldest first."""
        found: dict[str, Any] = {}
        async for entry in history(self._services, key, 0):
            for sent in entry.sent:
                if type(sent.content) in definition.compensated:
                    found[sent.id] = sent.content
            if type(entry.message) is CommandFailed:
                found.pop(entry.message.command_id, None)
        return found

    async def restart_from(self, definition: Definition, instance: Instance, step: str) -> Measure:
        """It goes on from the step; what it and those behind it have done is forgotten."""
        repairs = _repairs(definition, "restarted from a step")
        if instance.status is Status.COMPLETED:
            raise finished(instance)
        family = instance.family
        if instance.status.is_over and family is not None and family.parent:
            raise NotRepairable(
                f"its parent {family.parent!r} was told that it has failed",
                remedy="start another one, or repair the parent",
            )
        meant = repairs.restart_from(instance.state, step, instance.status.is_over)
        measure = Measure(Action.RESTART_FROM, meant.text, step)
        measure.content = await self._given_to(repairs, instance.key, step)
        await self._take_away(measure, repairs, instance.key, meant.steps)
        return measure

    async def _given_to(self, repairs: Repairs, key: str, step: str) -> Any:
        """What the step was performed with at last."""
        given = None
        async for entry in history(self._services, key, 0):
            for sent in entry.sent:
                if repairs.step_of(sent.content) == step:
                    given = repairs.input_of(sent.content) or given
        return given

    async def _take_away(
        self, measure: Measure, repairs: Repairs, key: str, steps: Collection[str]
    ) -> None:
        """Nobody performs these steps any more."""

        def is_meant(command: Any) -> bool:
            return repairs.step_of(command) in steps

        jobs = self._rows.of_steps(await self._rows.jobs(key), is_meant)
        letters = self._rows.letters_of_steps(await self._rows.letters(key), is_meant)
        measure.jobs = [(row, None) for row in jobs]
        measure.letters = [(letter, None) for letter in letters]

    # What all have in common

    def message_of(self, content: Any) -> Any:
        """An object of a message class; of a mapping with a type name, what that says."""
        if isinstance(content, Mapping):
            return self._services.codec.from_mapping(content)
        return content

    def kind(self, definition: Definition, instance: Instance, content: Any) -> VerdictKind:
        """The verdict on a message. Raises ``UnknownMessageType``, ``NotRepairable``."""
        stored = self._services.codec.encode(content)
        message = Message(content, *stored, "perdure.repair", self._services.clock.now_ms())
        delivery = self._routing.delivery_to(definition, instance.correlation_id, message)
        if delivery.strict and delivery.kind is VerdictKind.START:
            raise NotRepairable(
                f"{message.type} starts strictly, but the instance exists",
                remedy="start another one",
            )
        return delivery.kind


def finished(instance: Instance) -> InstanceFinished:
    """What is wanted cannot be had of one that has ended."""
    failure = f": {instance.detail}" if isinstance(instance.detail, str) else ""
    return InstanceFinished(
        f"it has {instance.status}{failure}",
        remedy="start another one"
        + (", or restart it from a step" if instance.status is Status.FAILED else ""),
    )


def _repairs(definition: Definition, be_done: str) -> Repairs:
    if definition.repairs is None:
        raise NotRepairable(
            f"it is a process manager, whose steps nobody knows: it cannot be {be_done}",
            remedy="mark its command as done, send to it, cancel it, or compensate it",
        )
    return definition.repairs


def _name(message: Any) -> str:
    if type(message) is ExternalEvent:
        return message.type
    info = type_info_of(type(message))
    return type(message).__name__ if info is None else info.name


def _redrive(letters: Sequence[DeadLetterRow]) -> str:
    """What failed for good is tried again by its letter; "" if there is none."""
    if not letters:
        return ""
    first, more = letters[0].position, len(letters) - 1
    also = f" (and {more} more)" if more else ""
    return f"its dead letter {first}{also} is what can be tried again: perdure dead redrive {first}"


def _can(instance: Instance, definition: Definition) -> str:
    if instance.status.is_over:
        return "start another one, or restart it from a step"
    return "cancel it, send to it, or see why it waits"
