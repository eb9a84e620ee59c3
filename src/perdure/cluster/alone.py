"""The mail of a runtime that owns a whole PostgreSQL database by itself.

Users' own transactions write mail (``runtime.send(…, transaction=session)``), and processes of a
cluster that has ended may have left some. Comes and goes with the runtime, as a ``Companion``.
Next to read: ``intake.py``; ``runtime/companions.py``.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial

from perdure.cluster.doorbell import bell_of
from perdure.cluster.intake import Intake
from perdure.runtime.running import Running
from perdure.store.postgres_database import Database
from perdure.store.postgres_mail import PostgresMail
from perdure.store.session import Session, channel_of

__all__ = ["MailAlone"]


class MailAlone:
    """Takes the mail of all shards; rung for on the session of the owner."""

    def __init__(self, database: Database, session: Session, running: Running) -> None:
        self._database = database
        self._session = session
        self._running = running
        self._channel = partial(channel_of, database.address.schema)
        mail = PostgresMail(database)
        self._intake = Intake(mail, None, running, ring=session.notify)

    @property
    def _bells(self) -> Sequence[str]:
        return [self._channel(bell_of(shard)) for shard in range(self._database.shards)]

    async def start(self) -> None:
        """Take what is there; then what comes."""
        await self._database.open()  # once more: rows go after the store was closed
        self._intake.start()
        self._running.joining.bell = self.ring
        for bell in self._bells:
            await self._session.listen(bell, lambda _: self._intake.ring())
        self._intake.ring()

    def ring(self, shards: Collection[int]) -> None:
        """A transaction of this process has put some."""
        self._intake.ring()

    def leave(self) -> None:
        """The runtime begins to stop: take nothing more."""
        self._intake.close()

    async def ended(self) -> None:
        """It has stopped: what it has answered goes."""
        await self._intake.ended()
        await self._database.close()
