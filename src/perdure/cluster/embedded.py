"""The mail of a runtime that is alone over its PostgreSQL: what users' transactions have put there.

Registered by the front door (``runtime/companions.py``). Rung for by the runtime itself; what other
processes put (``Letterbox``) is found at the next look. Next to read: ``intake.py``;
``runtime/joining.py``, which puts; ``router.py``, for a runtime that is not alone.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from perdure.store.beside import Beside, beside_of

if TYPE_CHECKING:
    from perdure.cluster.intake import Intake
    from perdure.runtime.lifecycle import Lifecycle

__all__ = ["take_mail"]


async def take_mail(runtime: Lifecycle) -> _Taking | None:
    """Bring the mail of all shards to a runtime that has started, if it owns them all."""
    running = runtime.running
    if running is None or running.services.elsewhere is not None:
        return None
    beside = beside_of(runtime.store)
    if beside is None or getattr(runtime.store, "shard", None) is not None:
        return None
    from perdure.cluster.intake import Intake
    from perdure.store.postgres_mail import PostgresMail

    await beside.database.open()  # for us: what was taken goes after the runtime has closed it
    intake = Intake(PostgresMail(beside.database), None, running, ring=_nobody)
    taking = _Taking(intake, beside)
    running.joining.bell = taking.ring
    intake.start()
    return taking


class _Taking:
    """Implements ``Companion``."""

    def __init__(self, intake: Intake, beside: Beside) -> None:
        self._intake = intake
        self._beside = beside

    def ring(self, shards: Collection[int]) -> None:
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
