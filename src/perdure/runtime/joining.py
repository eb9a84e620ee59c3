"""A message joins a transaction of the user's, from a runtime: the row now, the bell afterwards.

Next to read: ``accepted.py``, what the rows are; ``store/posting.py``, how they are put;
``sending.py``, who sends; ``letterbox.py``, the same without a runtime.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import Any

from perdure.errors import NotJoinable
from perdure.runtime.accepted import Enclosing, Letter
from perdure.runtime.jobs.outbound import Outbound
from perdure.runtime.routing import Routing
from perdure.runtime.services import Services
from perdure.store.beside import Beside, beside_of
from perdure.store.joined import Joined, in_transaction
from perdure.store.mail import MailRow
from perdure.store.posting import Posting, place_of

__all__ = ["Bell", "Joining", "joining_of"]

logger = logging.getLogger("perdure")

Bell = Callable[[Collection[int]], None]
"""Rings at the owners of these shards, on the runtime's loop."""

LOOK_AGAIN_S = 0.005
COMMIT_MAX_S = 5.0


class Joining:
    """Puts letters into transactions. ``beside``: None if the store is not in PostgreSQL.

    ``bell``: who rings at the owners; whoever takes the mail in this process says so.
    """

    def __init__(self, enclosing: Enclosing, beside: Beside | None, bell: Bell) -> None:
        self.enclosing = enclosing
        self.bell = bell
        self._beside = beside
        self._posting: Posting | None = None
        self._loop = asyncio.get_running_loop()

    async def put(self, transaction: Any, letters: Sequence[Letter]) -> None:
        """Write them within the transaction, in this order. Raises ``NotJoinable``."""
        beside = self._beside
        if beside is None:
            raise NotJoinable(
                "the runtime's store is not in PostgreSQL: a message cannot be part of another "
                "transaction there",
                remedy="send it without transaction=…, or run over postgresql+asyncpg://…",
            )
        if not letters:
            return
        if self._posting is None:
            home = await beside.run(place_of, beside.schema)
            self._posting = Posting(beside.schema, home)
        rows = [letter.row for letter in letters]
        await in_transaction(transaction, self._put, self._posting, rows)

    def _put(self, joined: Joined, posting: Posting, rows: Sequence[MailRow]) -> None:
        shards = posting.put(joined, rows)
        joined.on_commit(lambda is_done: self._committed(shards, is_done))

    def _committed(self, shards: Collection[int], is_done: Callable[[], bool]) -> None:
        """The transaction is being committed; on whatever thread the user does that."""
        with suppress(RuntimeError):  # the loop is closed: whoever runs next looks by itself
            self._loop.call_soon_threadsafe(self._ring, shards, is_done, COMMIT_MAX_S)

    def _ring(self, shards: Collection[int], is_done: Callable[[], bool], left_s: float) -> None:
        if not is_done() and left_s > 0:
            later_s = left_s - LOOK_AGAIN_S
            self._loop.call_later(LOOK_AGAIN_S, self._ring, shards, is_done, later_s)
            return
        try:
            self.bell(shards)
        except Exception:  # polling is the truth
            logger.exception("the bell of shards %s", sorted(shards))


def joining_of(services: Services, routing: Routing, outbound: Outbound) -> Joining:
    """That of a runtime that starts."""
    enclosing = Enclosing(routing, outbound, services.codec, services.clock.now_ms)
    elsewhere = services.elsewhere
    bell = _nobody if elsewhere is None else elsewhere.ring
    return Joining(enclosing, beside_of(services.store), bell)


def _nobody(shards: Collection[int]) -> None:
    """Polling finds it."""
