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
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeAlias, TypeVar

from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine

from perdure.errors import DefinitionError, JobError
from perdure.store.joined import Joined, in_transaction, joined_to

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker
    from sqlalchemy.orm import sessionmaker

__all__ = ["Maker", "OwnTransaction", "guard"]

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
        from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker
        from sqlalchemy.orm import sessionmaker

        self.is_async = isinstance(maker, (AsyncEngine, async_sessionmaker))
        if isinstance(maker, (AsyncEngine, Engine)):
            bind: Any = maker
            self._open: Any = maker.connect
        elif isinstance(maker, (async_sessionmaker, sessionmaker)):
            bind = maker.kw.get("bind")
            self._open = maker
        else:
            raise DefinitionError(
                f"a worker's own transaction is made of a {type(maker).__name__}",
                remedy="give an async_sessionmaker, AsyncEngine, sessionmaker or Engine",
            )
        dialect = getattr(bind, "dialect", None)
        if dialect is not None and dialect.name != "postgresql":
            raise DefinitionError(
                f"a worker's own transaction is one of {dialect.name}",
                remedy="give one of the PostgreSQL database where the runtime's store is",
            )

    def open(self) -> Any:
        """A new session or connection, as a context manager that gives it back."""
        return self._open()

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


class guard:
    """Within it, only we commit: a worker that does would part its rows from its result.

    with guard(session): ...
    """

    def __init__(self, transaction: Any) -> None:
        plain = getattr(transaction, "sync_session", None)
        if plain is None:
            plain = getattr(transaction, "sync_connection", None) or transaction
        self._plain: Any = plain
        self._what = "commit" if isinstance(plain, Connection) else "before_commit"

    def __enter__(self) -> None:
        event.listen(self._plain, self._what, _refuse)

    def __exit__(self, *_: object) -> None:
        event.remove(self._plain, self._what, _refuse)


def _refuse(plain: Any) -> None:
    if isinstance(plain, Connection) or not plain.in_nested_transaction():
        raise JobError(
            "the worker commits its own transaction",
            remedy="return, and it is committed with the worker's result; a savepoint "
            "(begin_nested) may be used within",
        )
