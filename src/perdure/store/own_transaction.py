"""A worker's own transaction: its rows, and that its job is done, in one commit.

    sessions = async_sessionmaker(create_async_engine("postgresql+asyncpg://…"))
    Runtime(url, [payments], resources={"session": OwnTransaction(sessions)})

    @payments.worker
    async def charge(command: Charge, session: AsyncSession) -> Charged:
        session.add(Payment(command.order_id, command.amount))
        return Charged(command.order_id)

Knows SQLAlchemy's makers of sessions and connections, and no job. Next to read: ``performed.py``,
the row that says so; ``runtime/jobs/own_work.py``, who begins and commits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeAlias, TypeVar

from perdure.errors import DefinitionError
from perdure.store.joined import Joined, in_transaction, joined_to

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine
    from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker
    from sqlalchemy.orm import sessionmaker

__all__ = ["Maker", "OwnTransaction"]

P = ParamSpec("P")
T = TypeVar("T")

Maker: TypeAlias = "async_sessionmaker[Any] | AsyncEngine | sessionmaker[Any] | Engine"
"""What transactions are made of: sessions, or plain connections."""


class OwnTransaction:
    """A resource that is another one for each attempt: a session, or connection, in a transaction.

        resources={"session": OwnTransaction(async_sessionmaker(engine))}

    What a worker does with it is committed together with its result, or not at all: the worker
    returns, and commits nothing itself. A job whose worker has committed is not performed again,
    whatever happens before its result is with its saga. ``maker``: an ``async_sessionmaker`` or
    ``AsyncEngine`` for workers that are ``async def``, a ``sessionmaker`` or ``Engine`` for plain
    functions; of the PostgreSQL database where the runtime's store is.

    Raises ``DefinitionError`` for anything else.
    """

    def __init__(self, maker: Maker) -> None:
        from perdure.store.joined_sqlalchemy import opener_of

        found = opener_of(maker)
        if found is None:
            raise DefinitionError(
                f"a worker's own transaction is made of a {type(maker).__name__}",
                remedy="give an async_sessionmaker, AsyncEngine, sessionmaker or Engine",
            )
        self._open, self.is_async, dialect = found
        if dialect is not None and dialect.name != "postgresql":
            raise DefinitionError(
                f"a worker's own transaction is one of {dialect.name}",
                remedy="give one of the PostgreSQL database where the runtime's store is",
            )
        if dialect is not None and dialect.is_async != self.is_async:
            raise DefinitionError(
                f"the {type(maker).__name__} is plain, and its driver {dialect.driver} is not",
                remedy="give the AsyncEngine, or an async_sessionmaker of it",
            )

    def open(self) -> Any:
        """A new session or connection, as a context manager that gives it back."""
        return self._open()

    def kept_open(self, transaction: Any) -> AbstractContextManager[None]:
        """Within it nobody commits the transaction: ``JobError`` is raised where somebody would."""
        from perdure.store.joined_sqlalchemy import uncommitted

        return uncommitted(transaction)

    async def run(
        self,
        function: Callable[Concatenate[Joined, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Call ``function(joined, …)`` in a transaction by itself, and commit it."""
        if not self.is_async:
            return await asyncio.to_thread(lambda: self.run_now(function, *args, **kwargs))
        async with self._open() as transaction:
            found = await in_transaction(transaction, function, *args, **kwargs)
            await transaction.commit()
            return found

    def run_now(
        self,
        function: Callable[Concatenate[Joined, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """The same, on this thread; not for asynchronous ones."""
        with self._open() as transaction:
            found = function(joined_to(transaction), *args, **kwargs)
            transaction.commit()
            return found
