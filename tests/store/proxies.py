"""A line to a server that a test can cut, or hold up, in the midst of something."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from sqlalchemy.engine import make_url

__all__ = ["Line", "line_to"]


class Line:
    """Bytes to and from a server. ``cut`` leaves the server's end open: it notices nothing."""

    def __init__(self, host: str, port: int) -> None:
        self.port = 0
        self.goes_on = asyncio.Event()
        self.goes_on.set()
        self._server = (host, port)
        self._clients: list[asyncio.StreamWriter] = []
        self._kept: list[asyncio.StreamWriter] = []
        self._carrying: set[asyncio.Task[None]] = set()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients.append(writer)
        there, back = await asyncio.open_connection(*self._server)
        self._kept.append(back)
        for carrying in (self._copy(reader, back), self._answer(there, writer)):
            task = asyncio.create_task(carrying)
            self._carrying.add(task)
            task.add_done_callback(self._carrying.discard)

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while some := await reader.read(65_536):
                await self.goes_on.wait()
                writer.write(some)
                await writer.drain()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._copy(reader, writer)
        writer.close()  # the server has ended it, and the client hears of that

    def cut(self) -> None:
        """The clients lose their connections; the server does not hear of it."""
        for writer in self._clients:
            writer.transport.abort()
        self._clients.clear()

    async def close(self) -> None:
        for task in list(self._carrying):
            task.cancel()
        await asyncio.gather(*self._carrying, return_exceptions=True)
        for writer in (*self._clients, *self._kept):
            writer.transport.abort()


@asynccontextmanager
async def line_to(url: str) -> AsyncIterator[tuple[str, Line]]:
    """The URL of the same database over a line of its own, and the line."""
    address = make_url(url)
    line = Line(address.host or "127.0.0.1", address.port or 5432)
    server = await asyncio.start_server(line.carry, "127.0.0.1", 0)
    line.port = server.sockets[0].getsockname()[1]
    try:
        through = address.set(host="127.0.0.1", port=line.port)
        yield through.render_as_string(hide_password=False), line
    finally:
        server.close()
        await line.close()
