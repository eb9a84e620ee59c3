"""What of an instance a repair may concern beside its state: its jobs, dead letters, what waits.

Read from the store when somebody asks; nothing is kept. Next to read:
``repair_plans.py``, which decides by it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from perdure.codec.outbox import unpack_job
from perdure.core.commit import DeadLetterRow, InboxReason, InboxRow, OutboxKind, OutboxRow
from perdure.errors import CodecError
from perdure.runtime.services import Services

__all__ = ["Repairable"]

ROWS_MAX = 1_000_000
"""An instance has fewer jobs, letters and messages: none of them may be overlooked."""


class Repairable:
    """Reads what belongs to an instance."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def jobs(self, key: str) -> list[OutboxRow]:
        """The commands of an instance that wait or are performed, oldest first."""
        rows = await self._services.store.rows_of(key, ROWS_MAX)
        return [row for row in rows.jobs if row.kind is OutboxKind.COMMAND]

    async def letters(self, key: str) -> list[DeadLetterRow]:
        """The dead letters of an instance, oldest first."""
        return (await self._services.store.rows_of(key, ROWS_MAX)).dead_letters

    async def delayed(self, key: str) -> list[InboxRow]:
        """The messages of an instance that wait for their next attempt."""
        rows = await self._services.store.rows_of(key, ROWS_MAX)
        return [row for row in rows.inbox if row.reason is InboxReason.DELAYED]

    def command_of(self, row: OutboxRow) -> Any:
        """What the job is to do; None if nobody can read it."""
        try:
            return self._services.codec.decode(row.type, row.version, row.body)
        except CodecError:
            return None

    def job_of(self, letter: DeadLetterRow) -> OutboxRow:
        """The job that became a dead letter, as new. Raises ``CodecError``."""
        return unpack_job(letter.instance, letter.queue, letter.type, letter.job, letter.body)

    def of_steps(self, rows: list[OutboxRow], is_meant: Callable[[Any], bool]) -> list[OutboxRow]:
        """Those whose command is meant."""
        return [row for row in rows if is_meant(self.command_of(row))]

    def letters_of_steps(
        self, letters: list[DeadLetterRow], is_meant: Callable[[Any], bool]
    ) -> list[DeadLetterRow]:
        """Those of jobs whose command is meant."""
        found = []
        for letter in letters:
            try:
                is_one = bool(letter.job) and is_meant(self.command_of(self.job_of(letter)))
            except CodecError:
                continue
            if is_one:
                found.append(letter)
        return found

    def changed(self, row: OutboxRow, command: Any) -> OutboxRow:
        """The job with another command. Raises ``EncodeError``."""
        name, version, body = self._services.codec.encode(command)
        return replace(row, type=name, version=version, body=body, content=None)
