"""The mail of a runtime that is alone over its PostgreSQL: what users' transactions have put there.

Begun by ``ops/attending.py``. Rung for by the runtime itself; what other processes put
(``Letterbox``) is found at the next look. Next to read: ``intake.py``; ``runtime/joining.py``,
which puts; ``router.py``, for a runtime that is not alone.
"""

from __future__ import annotations

from collections.abc import Collection

from perdure.cluster.intake import Intake
from perdure.runtime.running import Running
from perdure.store.beside import Beside
from perdure.store.postgres_mail import PostgresMail

__all__ = ["MailTaking", "take_mail"]


async def take_mail(running: Running, beside: Beside) -> MailTaking:
    """Bring the mail of all shards to a runtime that has started."""
    await beside.database.open()  # for us: what was taken goes after the runtime has closed it
    intake = Intake(PostgresMail(beside.database), None, running, ring=_nobody)
    taking = MailTaking(intake, beside)
    running.joining.bell = taking.ring
    intake.start()
    return taking


class MailTaking:
    """Implements ``Companion``."""

    def __init__(self, intake: Intake, beside: Beside) -> None:
        self._intake = intake
        self._beside = beside

    def ring(self, shards: Collection[int]) -> None:
        """Mail was put."""
        self._intake.ring()

    def leave(self) -> None:
        self._intake.close()

    async def ended(self) -> None:
        try:
            await self._intake.ended()
        finally:
            await self._beside.database.close()


def _nobody(channel: str, payload: str) -> None:
    """Nobody waits for an answer: a transaction's messages have no sender any more."""
