"""The asking end of a control socket.

    control = await Control.over("orders.db")
    if control is not None:
        async with control:
            await control.ask("release", saga="Order", id="o-1", by="ann", why="fixed in 1.4")

Finds the socket in the lock file beside the database, and trusts it only if the process behind it
is of the same user, of root, or of the database's owner. Next to read: ``lines.py``.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from typing import Any, Self

from perdure.errors import StoreError
from perdure.ops.control.lines import LINE_BYTES_MAX, BadRequest, Refused, Request, answered
from perdure.ops.control.place import peer_uid
from perdure.store.lock import Holder, holder_of

__all__ = ["Control", "NoAnswer"]

CONNECT_S = 5.0
GRACE_S = 5.0
"""So much longer than a request may take on the other side, its answer is waited for here."""


class NoAnswer(StoreError):
    """A runtime holds the store, and cannot be asked."""


class Control:
    """A connection to the runtime that holds a database."""

    def __init__(
        self, holder: Holder, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.holder = holder
        self._reader = reader
        self._writer = writer
        self._numbers = itertools.count(1)
        self._awaited: dict[int, asyncio.Future[Any]] = {}
        self._reading = asyncio.get_running_loop().create_task(self._read())

    @classmethod
    async def over(cls, database: str) -> Control | None:
        """Connect to whoever holds the database; None if nobody does, or a killed process did.

        Raises ``NoAnswer`` if somebody seems to, and cannot be asked.
        """
        holder = holder_of(database)
        if holder is None:
            return None
        problem = "it has no control socket"
        if holder.control is not None:
            try:
                async with asyncio.timeout(CONNECT_S):
                    return await cls._connected(holder, database, holder.control)
            except TimeoutError:
                problem = f"it does not answer within {CONNECT_S:g} s"
            except (OSError, BadRequest) as error:
                problem = f"its control socket cannot be used: {error}"
        if holder.is_gone:
            return None
        raise NoAnswer(
            f"{database!r} seems to be held by {holder.text}, and {problem}",
            remedy="run this as the same user on the same machine; if that runtime is gone for "
            "good, give --app, which takes the store over",
        )

    @classmethod
    async def _connected(cls, holder: Holder, database: str, path: str) -> Control:
        reader, writer = await asyncio.open_unix_connection(path, limit=8 * LINE_BYTES_MAX)
        uid = peer_uid(writer.get_extra_info("socket"))
        if uid not in (None, 0, os.geteuid(), os.stat(database).st_uid):
            writer.close()
            raise BadRequest(f"the process behind it is of user {uid}")
        control = cls(holder, reader, writer)
        try:
            await control.ask("ping", within_s=CONNECT_S)
        except BaseException:
            await control.close()
            raise
        return control

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def ask(self, do: str, *, within_s: float = 60.0, **arguments: Any) -> Any:
        """The answer to one request. Raises ``Refused``, ``NoAnswer``."""
        number = next(self._numbers)
        future = self._awaited[number] = asyncio.get_running_loop().create_future()
        line = Request(number, do, {**arguments, "within_s": within_s}).line()
        try:
            if len(line) > LINE_BYTES_MAX:
                raise Refused("LimitExceeded", f"more than {LINE_BYTES_MAX} bytes to send")
            if self._reading.done():
                raise self._hung_up()
            self._writer.write(line)
            async with asyncio.timeout(within_s + GRACE_S):
                await self._writer.drain()
                return await future
        except TimeoutError:
            raise NoAnswer(
                f"{self.holder.text} gives no answer within {within_s + GRACE_S:g} s",
                remedy="its event loop may be blocked; what was asked may still be done",
            ) from None
        except OSError:
            raise self._hung_up() from None
        finally:
            del self._awaited[number]

    async def close(self) -> None:
        """Hang up."""
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)
        self._writer.close()

    async def _read(self) -> None:
        try:
            while True:
                number, result = answered(await self._reader.readuntil(b"\n"))
                if number is None:
                    raise result if isinstance(result, Refused) else BadRequest("no request named")
                future = self._awaited.get(number)
                if future is None or future.done():
                    continue
                if isinstance(result, Refused):
                    future.set_exception(result)
                else:
                    future.set_result(result)
        except (OSError, EOFError, BadRequest, Refused, asyncio.LimitOverrunError) as error:
            self._fail_all(error)

    def _fail_all(self, error: Exception) -> None:
        for future in self._awaited.values():
            if not future.done():
                future.set_exception(error if isinstance(error, Refused) else self._hung_up())

    def _hung_up(self) -> NoAnswer:
        return NoAnswer(
            f"{self.holder.text} has hung up",
            remedy="it has stopped, or was killed; what was asked may have been done: look first",
        )
