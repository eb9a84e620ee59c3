"""The control socket's other end: listens beside a runtime, on its loop, and answers operators.

    async with Runtime("sqlite+aiosqlite:///orders.db", [Order]):    # has one by itself
        ...

No thread, and nothing to do while nobody asks. A client that hangs, sends garbage or does not read
is given up and harms nobody; the longest idle one makes room when there are too many. If there can
be no socket, the runtime goes on without, and the log says so.
Next to read: ``requests.py``, what is answered; ``runtime/companions.py``, who starts it.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Self

from perdure.errors import PerdureError
from perdure.ops.control.lines import LINE_BYTES_MAX, BadRequest, Request, answer, refusal
from perdure.ops.control.place import Place, bound, peer_uid
from perdure.ops.control.requests import no_end, perform
from perdure.runtime.runtime import Runtime
from perdure.store.sql import SqlStore

__all__ = ["ControlSocket"]

logger = logging.getLogger("perdure.control")

CLIENTS_MAX = 32
IN_FLIGHT_MAX = 64
"""So many requests of one client at a time; further ones are not read yet."""
IDLE_S = 300.0
WRITE_S = 30.0
REQUEST_S = 60.0
REQUEST_S_MAX = 3600.0

Perform = Callable[[str, Mapping[str, Any]], Awaitable[Any]]


class ControlSocket:
    """Answers on the control socket of one runtime, from ``listen`` to ``leave``."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._place: Place | None = None
        self._server: asyncio.Server | None = None
        self._clients: dict[_Client, asyncio.Task[Any]] = {}

    @property
    def path(self) -> str | None:
        """Where it listens, None if it does not."""
        return None if self._place is None else self._place.path

    async def __aenter__(self) -> Self:
        await self.listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.leave()
        await self.ended()

    async def listen(self) -> bool:
        """Bind, listen, and write it into the lock file. False, and a line in the log, if not."""
        store = self._runtime.store
        assert isinstance(store, SqlStore)
        place = None
        try:
            place = bound(store.path)
            self._server = await asyncio.start_unix_server(
                self._serve, sock=place.listener, limit=LINE_BYTES_MAX
            )
        except (OSError, NotImplementedError) as error:
            if place is not None:
                place.leave()
            logger.warning("no control socket for %r: %s", store.path, error)
            return False
        self._place = place
        store.record_control(place.path)
        return True

    def leave(self) -> None:
        """Take no further clients; what they have asked is still answered."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        place, self._place = self._place, None
        if place is not None:
            place.leave()
            store = self._runtime.store
            assert isinstance(store, SqlStore)
            store.record_control("")
        for client in self._clients:
            client.leave()

    async def ended(self) -> None:
        """Wait a moment for the last answers, then hang up."""
        if self._clients:
            _, left = await asyncio.wait(self._clients.values(), timeout=1.0)
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        uid = peer_uid(writer.get_extra_info("socket"))
        if uid not in (None, 0, os.geteuid()):
            logger.warning("user %s may not use the control socket", uid)
            writer.close()
            return
        client = _Client(reader, writer, self._perform)
        task = asyncio.current_task()
        assert task is not None
        self._clients[client] = task
        self._make_room()
        try:
            await client.serve()
        except asyncio.CancelledError:
            pass  # it has made room, or the runtime has stopped: asyncio would log it as a failure
        finally:
            del self._clients[client]

    def _make_room(self) -> None:
        if len(self._clients) > CLIENTS_MAX:
            idle = [one for one in self._clients if not one.in_flight]
            least = min(idle[:-1] or list(self._clients), key=lambda one: one.heard_s)
            self._clients[least].cancel()

    async def _perform(self, do: str, arguments: Mapping[str, Any]) -> Any:
        return await perform(self._runtime, do, arguments)


class _Client:
    """One connection: reads requests, and answers each when it is done."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, perform: Perform
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._perform = perform
        self._slots = asyncio.Semaphore(IN_FLIGHT_MAX)
        self._loop = asyncio.get_running_loop()
        self.in_flight: set[asyncio.Task[None]] = set()
        self.heard_s = self._loop.time()

    def leave(self) -> None:
        """Read no more."""
        self._reader.feed_eof()

    async def serve(self) -> None:
        """Until it hangs up, is silent for long, or says what nobody understands."""
        try:
            await self._read()
            if self.in_flight:
                await asyncio.wait(self.in_flight)
        except BadRequest as error:
            await self._write(refusal(None, error))
        except (OSError, TimeoutError):
            pass  # it is gone
        finally:
            for task in self.in_flight:
                task.cancel()
            self._writer.close()

    async def _read(self) -> None:
        while True:
            try:
                async with asyncio.timeout(IDLE_S):
                    line = await self._reader.readuntil(b"\n")
            except asyncio.IncompleteReadError:
                return
            except asyncio.LimitOverrunError:
                raise BadRequest(f"a line of more than {LINE_BYTES_MAX} bytes") from None
            self.heard_s = self._loop.time()
            request = Request.of(line)
            await self._slots.acquire()
            task = self._loop.create_task(self._answer(request))
            self.in_flight.add(task)
            task.add_done_callback(self._answered)

    def _answered(self, task: asyncio.Task[None]) -> None:
        self.in_flight.discard(task)
        self._slots.release()

    async def _answer(self, request: Request) -> None:
        limit_s = _limit_s(request.arguments.get("within_s"))
        arguments = {name: one for name, one in request.arguments.items() if name != "within_s"}
        try:
            async with asyncio.timeout(limit_s):
                line = answer(request.id, await self._perform(request.do, arguments))
        except TimeoutError:
            line = refusal(request.id, no_end(request.do, limit_s))
        except PerdureError as error:
            line = refusal(request.id, error)
        except Exception as error:
            logger.exception("request %r failed", request.do)
            line = refusal(request.id, error)
        await self._write(line)

    async def _write(self, line: bytes) -> None:
        try:
            self._writer.write(line)
            async with asyncio.timeout(WRITE_S):
                await self._writer.drain()
        except (OSError, TimeoutError):  # it is gone, or does not read
            self._writer.transport.abort()


def _limit_s(wanted: object) -> float:
    if isinstance(wanted, (int, float)) and 0 < wanted <= REQUEST_S_MAX:
        return float(wanted)
    return REQUEST_S
