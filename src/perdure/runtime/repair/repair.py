"""Repair: what an operator does to one instance, or to many, each with who and why.

    repair = runtime.repair(by="ann", why="bug 4711: wrong account")
    print(await repair.retry(ref, dry_run=True))
    print(await repair.mark_done(ref, "charge", {"receipt": "r-17"}))
    done = await repair.each(runtime.instances(trip, status="stuck"), "retry")

Each is a turn of its instance, journaled with who and why; whatever it changes of jobs, dead
letters and waiting messages is written in the same commit. Next to read: ``measures.py``, what is
to be done; ``mending.py``, how; ``core/intervention.py``, what is journaled.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Awaitable, Iterable
from datetime import datetime
from typing import Any, TypeAlias

from perdure.core.intervention import Action
from perdure.errors import DefinitionError
from perdure.runtime.instances.quarantine import QuarantinedInstance
from perdure.runtime.letters.letters import DeadLetter
from perdure.runtime.looking.views import InstanceView
from perdure.runtime.ref import SagaRef
from perdure.runtime.repair.deadline_measures import cancel_deadline, set_deadline
from perdure.runtime.repair.mending import Decide
from perdure.runtime.repair.mending_letters import MendingLetters
from perdure.runtime.repair.repaired import Repaired, Tried
from perdure.runtime.repair.said import Said

__all__ = ["Repair", "Target"]

Target: TypeAlias = SagaRef | InstanceView | QuarantinedInstance
"""Which instance: its address, or as it was seen in a listing."""

CONCURRENCY = 8


class Repair:
    """What may be done by hand, by one person for one reason; made by ``runtime.repair``.

    All have these in common. ``dry_run``: say what would be done, and do nothing. ``expected``: the
    sequence number at which the instance was seen; if it has had a turn since, nothing is done.
    ``message_id``: repeated under it, what was done is told, and not done again.

    Raises ``InstanceNotFound``; ``NotRepairable`` if it does not fit how the instance stands,
    ``InstanceMoved`` if that is not as ``expected``, ``InstanceFinished``, ``InstanceQuarantined``,
    ``InstancePurged``;
    whatever the saga's code raises in that turn; ``StoreError``. Nothing has been done then.
    """

    def __init__(self, letters: MendingLetters, by: str, why: str) -> None:
        self._mending = letters.mending
        self._letters = letters
        self._said = Said.of(by, why)

    def _on(
        self, target: Target, said: Said, decide: Decide, *arguments: Any
    ) -> Awaitable[Repaired]:
        saga, key = _address(target)
        definition = self._letters.definition(saga)
        return self._mending.instance(definition, key, said, decide, *arguments)

    def __repr__(self) -> str:
        return f"<Repair by {self._said.by!r}: {self._said.why!r}>"

    async def retry(
        self,
        target: Target,
        *,
        dry_run: bool = False,
        expected: int | None = None,
        message_id: str | None = None,
    ) -> Repaired:
        """Now, what waits for its next attempt: messages, commands, what the saga is stuck at."""
        measures, said = self._mending.measures, self._said.how(dry_run, expected, message_id)
        return await self._on(target, said, measures.retry)

    async def skip(
        self,
        target: Target,
        step: str,
        *,
        dry_run: bool = False,
        expected: int | None = None,
        message_id: str | None = None,
    ) -> Repaired:
        """Go on without a step that is not done, of an ordered saga or workflow.

        It gives no results (a coroutine is given None) and is never undone. A step that could not
        be undone stays as it is, and counts as a residue.
        """
        measures, said = self._mending.measures, self._said.how(dry_run, expected, message_id)
        return await self._on(target, said, measures.skip, _named("step", step))

    async def mark_done(
        self,
        target: Target,
        step_or_command_id: str,
        result: Any = None,
        *,
        dry_run: bool = False,
        expected: int | None = None,
        message_id: str | None = None,
    ) -> Repaired:
        """Somebody has done it by hand: go on as if its worker had returned ``result``.

            await repair.mark_done(trip_ref, "book_hotel", {"hotel": "h-17"})
            await repair.mark_done(order_ref, "Order/o-1/3/0", PaymentReceived("o-1"))

        Of a step by its name; of a process manager's command by its id (``Sent.id``, ``Job.key``).
        Its job, or dead letter, goes. Raises ``InvalidResult``, ``EncodeError``.
        """
        measures, said = self._mending.measures, self._said.how(dry_run, expected, message_id)
        about = _named("step_or_command_id", step_or_command_id)
        return await self._on(target, said, measures.mark_done, about, result)

    async def send(
        self,
        target: Target,
        message: Any,
        *,
        dry_run: bool = False,
        expected: int | None = None,
        message_id: str | None = None,
    ) -> Repaired:
        """Let the instance take this message now, before all that waits. Raises as ``send``."""
        measures, said = self._mending.measures, self._said.how(dry_run, expected, message_id)
        return await self._on(target, said, measures.send, message)

    async def cancel(
        self,
        target: Target,
        *,
        dry_run: bool = False,
        expected: int | None = None,
        message_id: str | None = None,
    ) -> Repaired:
        """It shall not go on; what it makes of that, it says itself (``Runtime.cancel``)."""
        measures, said = self._mending.measures, self._said.how(dry_run, expected, message_id)
        return await self._on(target, said, measures.cancel)

    async def compensate(
        self,
        target: Target,
        *,
        dry_run: bool = False,
        expected: int | None = None,
        message_id: str | None = None,
    ) -> Repaired:
        """Turn back here: what is done is undone, latest first, and the instance fails.

        Of an ordered saga what its steps declare, not past its pivot. Of a process manager what
        ``@compensates`` declares for the commands it has sent, and not made up for yet; those of
        them that still wait are not performed any more.
        """
        measures, said = self._mending.measures, self._said.how(dry_run, expected, message_id)
        return await self._on(target, said, measures.compensate)

    async def restart_from(
        self,
        target: Target,
        step: str,
        *,
        dry_run: bool = False,
        expected: int | None = None,
        message_id: str | None = None,
    ) -> Repaired:
        """Forget what a step and those behind it have done, and go on there; also if it has failed.

        A step that had been done is performed again under another idempotency key; nothing undoes
        what it did before. One that was not keeps its key.
        """
        measures, said = self._mending.measures, self._said.how(dry_run, expected, message_id)
        return await self._on(target, said, measures.restart_from, _named("step", step))

    async def set_deadline(
        self,
        target: Target,
        name: str,
        at: datetime,
        *,
        dry_run: bool = False,
        expected: int | None = None,
        message_id: str | None = None,
    ) -> Repaired:
        """Let a deadline be reached at another moment; "timeout" is the whole process's."""
        said = self._said.how(dry_run, expected, message_id)
        return await self._on(target, said, set_deadline, _named("name", name), at)

    async def cancel_deadline(
        self,
        target: Target,
        name: str,
        *,
        dry_run: bool = False,
        expected: int | None = None,
        message_id: str | None = None,
    ) -> Repaired:
        """Let a deadline not be reached at all."""
        said = self._said.how(dry_run, expected, message_id)
        return await self._on(target, said, cancel_deadline, _named("name", name))

    async def release(
        self, target: Target, *, dry_run: bool = False, message_id: str | None = None
    ) -> Repaired:
        """Let an instance live again that is quarantined; its held messages have their turns."""
        said = self._said.how(dry_run, None, message_id)
        return await self._letters.release(*_address(target), said)

    # Dead letters

    async def redrive(
        self,
        letter: DeadLetter | int,
        message: Any = None,
        *,
        dry_run: bool = False,
        expected: int | None = None,
    ) -> Repaired:
        """Send a dead letter on its way again, as it is or with another ``message``.

        A command begins anew under its id; of a step, ``message`` is what it is performed with. A
        message has its turn at once: if its handler raises again, the letter stays. What belongs
        to no instance that is there is redriven all the same, and the log tells who did it.
        """
        said = self._said.how(dry_run, expected, None)
        return await self._letters.letter(Action.REDRIVE, letter, message, said)

    async def discard(
        self, letter: DeadLetter | int, *, dry_run: bool = False, expected: int | None = None
    ) -> Repaired:
        """Throw a dead letter away; what had to wait for its command may start."""
        said = self._said.how(dry_run, expected, None)
        return await self._letters.letter(Action.DISCARD, letter, None, said)

    # Many

    async def each(
        self,
        targets: Iterable[Any] | AsyncIterable[Any],
        action: Action | str,
        *arguments: Any,
        concurrency: int = CONCURRENCY,
        **options: Any,
    ) -> list[Tried]:
        """The same to many, so many at a time; what came of each, in their order.

            stuck = runtime.instances(trip, status="stuck")
            for one in await repair.each(stuck, "skip", "send_voucher", dry_run=True):
                print(one.repaired or one.error)

        ``targets`` are those of the ``action``, which is the name of a method here; ``arguments``
        and ``options`` are its others. One that fails stops no other. Listed first, so that what
        comes meanwhile is not among them.
        """
        do = self._method(action)
        if type(concurrency) is not int or concurrency < 1:
            raise DefinitionError(
                f"concurrency is {concurrency!r}", remedy="give a whole number above zero"
            )
        room = asyncio.Semaphore(concurrency)

        async def one(target: Any) -> Tried:
            async with room:
                try:
                    return Tried(target, await do(target, *arguments, **options))
                except Exception as error:
                    return Tried(target, None, error)

        if isinstance(targets, AsyncIterable):
            listed = [target async for target in targets]
        else:
            listed = list(targets)
        return list(await asyncio.gather(*map(one, listed)))

    def _method(self, action: Action | str) -> Any:
        if action not in Action.__members__.values():
            raise DefinitionError(
                f"{action!r} is nothing that can be done", remedy=f"give one of {', '.join(Action)}"
            )
        return getattr(self, str(action))


def _address(target: Target) -> tuple[str, str]:
    """The saga of an instance, and its key."""
    if isinstance(target, SagaRef):
        return target.saga, target.key
    if isinstance(target, InstanceView | QuarantinedInstance):
        return target.saga, f"{target.saga}/{target.correlation_id}"
    raise DefinitionError(
        f"{target!r} is no instance", remedy="give runtime.ref(saga, id), or one that was listed"
    )


def _named(what: str, name: object) -> str:
    if not isinstance(name, str) or not name:
        raise DefinitionError(f"{what} is {name!r:.80}", remedy="give its name, a text")
    return name
