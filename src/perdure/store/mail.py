"""Mail: what one process has accepted for an instance that another one owns. Rows in PostgreSQL.

    await mail.put([MailRow("Order/o-1", "m-1", MailKind.MESSAGE, body, "", now_ms)])
    rows = await mail.page(3, epoch)                      # by its owner, in order of position
    await mail.remove(rows, epoch)                        # once what became of them is known

A row is there from the sender's commit until its message is dealt with; whatever is read twice is
known by its message id. Knows bytes, no message. Next to read: ``cluster/posting.py``, which puts;
``cluster/intake.py``, which takes; ``postgres_mail.py``; ``codec/mail.py``, what is in ``body``.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple, Protocol

__all__ = ["Mail", "MailKind", "MailRow", "Trace"]


class MailKind(IntEnum):
    """What a row asks of the owner."""

    MESSAGE = 1
    """A message to an instance."""
    JOB = 2
    """A job that no saga sent; ``instance`` is its id."""
    ERRAND = 3
    """What else is to be done where the key is owned."""


@dataclass(slots=True)
class MailRow:
    """One letter. ``instance`` decides the shard; ``kind`` is a ``MailKind``, or one of newer code;
    ``reply_to`` is "" where nobody waits.

    ``position`` is given by the database, 0 means none yet: those of one sender grow, those of
    several may become visible out of order. ``is_damaged``: it fails its checksum.
    """

    instance: str
    message_id: str
    kind: int
    body: bytes
    reply_to: str
    created_at_ms: int
    position: int = 0
    is_damaged: bool = False


class Trace(NamedTuple):
    """Where a message is: in a row of mail, or, 0 for that, in a turn of its instance."""

    position: int
    sequence_nr: int


class Mail(Protocol):
    """The rows. Every call is a transaction of its own; raises ``StoreError``."""

    async def put(self, rows: Sequence[MailRow], bells: Sequence[str] | None = None) -> list[int]:
        """Write the rows in this order; returns their positions.

        With ``bells``, channels that are rung in the same moment, nobody waits for the disk: for
        rows that are put again if a crash of the server takes them. If it raises, they may be there
        all the same.
        """
        ...

    async def page(
        self,
        shard: int | None,
        epoch: int,
        under_way: Collection[int] = (),
        aside: Collection[str] = (),
        limit: int = 1000,
    ) -> Sequence[MailRow]:
        """The rows of a shard (None: of all) in order of position, from the lowest on.

        None if another owner has taken it: its epoch is newer. Without those under way, and without
        those of the instances that are set aside.
        """
        ...

    async def waiting(self, shards: Sequence[int]) -> set[int]:
        """Which of these shards have any rows: one question for all of a process."""
        ...

    async def remove(self, rows: Sequence[MailRow], epoch: int) -> None:
        """Delete the rows, those that are there and whose shard is still owned under this epoch.

        A position alone names no row: a server that crashes may forget rows that were put without
        waiting for its disk, and give their positions to others.

        Not flushed to disk at once: a row that comes back after a crash of the server is known by
        its message id.
        """
        ...

    async def traces(self, letters: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Trace]:
        """Where these messages are, (instance, message id): those that are anywhere.

        Searches the last turns of their instances, very many: for letters that were lost sight of.
        """
        ...

    async def present(self, positions: Sequence[int]) -> set[int]:
        """Which of these rows are there."""
        ...
