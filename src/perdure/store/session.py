"""A host's own connection to PostgreSQL: it registers, beats, listens, and rings doorbells.

    session = Session(connect, Ownership("perdure"), host, now_ms, version="0.1.0")
    await session.open()
    await session.listen(channel_of("perdure", "shard-3"), look)   # look("") after a reconnect
    session.notify(channel_of("perdure", "shard-7"))
    claimed = await session.ask(owners.claim, 4)
    await session.close()

One connection and one task: what is asked of it is done one after another. It is not taken from a
pool, so that a pool in use, or full, delays no beat. A connection that is lost is made again; the
host stays the same, and hears with the next beat what it still owns. A doorbell says "look"; the
rows are the truth, so nothing waits for one that could not be rung.

Doorbells and beats do not wait for the server's disk. Claims do: were one forgotten by a crash, its
epoch would be given out again, and two owners would pass the fence.
Next to read: ``ownership.py``, ``channels.py``.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from perdure.errors import StoreError, StoreUnavailable
from perdure.store.channels import RING, Hearer, channel_of
from perdure.store.ownership import Beat, HostId, Ownership
from perdure.store.postgres_errors import said

if TYPE_CHECKING:
    from perdure.store.ownership import Connection

__all__ = ["SERVER_SETTINGS", "Session", "channel_of"]

logger = logging.getLogger("perdure.cluster")

Asked = ParamSpec("Asked")
Answer = TypeVar("Answer")

PAUSE_S = 0.05
PAUSE_MAX_S = 1.0

SERVER_SETTINGS = {
    "synchronous_commit": "on",
    "tcp_keepalives_idle": "2",
    "tcp_keepalives_interval": "1",
    "tcp_keepalives_count": "3",
}
"""Of a session. Claims are durable, whatever the server's default is; and the server notices within
some seconds that a machine is not there any more."""


@dataclass(slots=True)
class _Request:
    """Something to be done with the connection, and who waits for it."""

    do: Callable[[Connection], Awaitable[Any]]
    done: asyncio.Future[Any]

    def fail(self, error: BaseException) -> None:
        """It was not done, or nobody knows."""
        if not self.done.done():
            self.done.set_exception(error)


class Session:
    """The connection of one host.

    ``connect`` makes an asyncpg connection with ``SERVER_SETTINGS``, or raises StoreError.
    ``now_ms`` is this machine's wall clock. ``beat_s``: seconds between two beats. ``on_beat`` is
    called on the loop with what the database answers to each, and to each registration.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[Connection]],
        owners: Ownership,
        host: HostId,
        now_ms: Callable[[], int],
        *,
        version: str,
        is_draining: bool = False,
        beat_s: float = 0.5,
        on_beat: Callable[[Beat], None] = lambda beat: None,
    ) -> None:
        self.owners = owners
        self.host = host
        self.on_beat = on_beat
        self.skew_s = 0.0
        """How far this machine's clock is ahead of the database's, as the last beat showed."""
        self.lost = 0
        """So many times the connection was lost."""
        self._connect = connect
        self._now_ms = now_ms
        self._version = version
        self._is_draining = is_draining
        self._beat_s = beat_s
        self._limit_s = owners.lease_s / 2
        self._connection: Connection | None = None
        self._hearers: dict[str, Hearer] = {}
        self._requests: deque[_Request] = deque()
        self._bells: dict[tuple[str, str], None] = {}
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._is_closing = False

    @property
    def is_connected(self) -> bool:
        """The connection is there, as far as is known."""
        return self._connection is not None

    async def open(self) -> Beat:
        """Connect and register. Raises StoreUnavailable and its like."""
        try:
            beat = await self._begin()
        except BaseException as error:
            await self._disconnect()
            if isinstance(error, StoreError) or not isinstance(error, Exception):
                raise
            raise _unavailable(error) from error
        self._task = asyncio.get_running_loop().create_task(self._serve())
        return beat

    async def listen(self, channel: str, hear: Callable[[str], None]) -> None:
        """Call ``hear(payload)`` on the loop when the channel rings; one hearer for each channel.

        Called with "" after each reconnect: something may have been missed. Listens when this
        returns, if there is a connection.
        """
        hearer = self._hearers[channel] = Hearer(channel, hear)
        if self._connection is not None:
            with suppress(StoreUnavailable):  # a new connection listens to all that is wanted
                await self._request(hearer.begin)

    async def unlisten(self, channel: str) -> None:
        """Hear that channel no more."""
        hearer = self._hearers.pop(channel, None)
        if hearer is not None and self._connection is not None:
            with suppress(StoreUnavailable):
                await self._request(hearer.end)

    def notify(self, channel: str, payload: str = "") -> None:
        """Ring a channel soon; all that gathers goes in one statement, the same one once.

        Never waits and never fails: while there is no connection nothing is rung.
        """
        if self._connection is not None:
            self._bells[channel, payload] = None
            self._wake.set()

    async def ask(
        self,
        function: Callable[Concatenate[Connection, HostId, Asked], Awaitable[Answer]],
        *arguments: Asked.args,
        **named: Asked.kwargs,
    ) -> Answer:
        """Call a method of ``Ownership`` with this connection and host; waits for its turn.

        Raises StoreUnavailable while there is no connection.
        """
        answer: Answer = await self._request(
            lambda connection: function(connection, self.host, *arguments, **named)
        )
        return answer

    async def drain(self, is_draining: bool = True) -> None:
        """The host wants no share of the shards (any more), or does; kept through reconnects."""
        self._is_draining = is_draining
        with suppress(StoreUnavailable):  # the next registration says it
            await self.ask(self.owners.drain, is_draining)

    async def close(self) -> None:
        """Leave (whatever the host still owns is free), and disconnect. May be called twice."""
        if self._task is not None and not self._is_closing:
            with suppress(StoreError):
                await self.ask(self.owners.leave)
        self._is_closing = True
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await self._disconnect()

    # The connection

    async def _serve(self) -> None:
        """Beat, and do what is asked; make the connection again when it is lost."""
        failures = 0
        while True:
            try:
                if self._connection is None:
                    await self._begin()
                    self._look_all()
                failures = 0
                await self._attend()
            except Exception as error:
                failures += 1
                self._lost(error, failures)
                await self._disconnect()
                await asyncio.sleep(min(PAUSE_S * 2 ** min(failures - 1, 10), PAUSE_MAX_S))

    def _lost(self, error: BaseException, failures: int) -> None:
        if self._connection is not None:
            self.lost += 1
        if failures == 1:
            logger.warning(
                "host %s has lost its session, and makes another one: %s",
                self.host.name,
                said(error),
            )

    async def _begin(self) -> Beat:
        """Connect, register, listen."""
        async with asyncio.timeout(self._limit_s):
            connection = await self._connect()
            connection.add_termination_listener(self._terminated)
            self._connection = connection
            beat = await self._register(connection)
            for hearer in list(self._hearers.values()):
                await hearer.begin(connection)
        self.on_beat(beat)
        return beat

    def _register(self, connection: Connection) -> Awaitable[Beat]:
        return self.owners.register(connection, self.host, self._version, self._is_draining)

    def _look_all(self) -> None:
        for hearer in list(self._hearers.values()):
            hearer.hear("")

    async def _attend(self) -> None:
        """Do what is asked, and beat in time; raises when the connection is lost."""
        loop = asyncio.get_running_loop()
        beat_at_s = loop.time() + self._beat_s
        while True:
            self._wake.clear()
            connection = self._living()
            if loop.time() >= beat_at_s:
                await self._beat(connection)
                beat_at_s = loop.time() + self._beat_s
            elif self._bells or self._requests:  # in turns: neither keeps the other waiting
                if self._bells:
                    await self._ring(connection)
                if self._requests:
                    await self._answer(connection, self._requests.popleft())
            else:
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(beat_at_s):
                        await self._wake.wait()

    async def _ring(self, connection: Connection) -> None:
        bells, self._bells = self._bells, {}
        channels, payloads = zip(*bells, strict=True)
        try:
            async with asyncio.timeout(self._limit_s):
                await connection.execute(RING, channels, payloads)
        except Exception as error:
            if connection.is_closed() or not getattr(error, "sqlstate", None):
                raise
            # The server's queue of them is full, for one: who is not rung for looks by himself.
            logger.warning("ringing %d doorbells failed: %s", len(channels), error)

    async def _answer(self, connection: Connection, request: _Request) -> None:
        if request.done.done():
            return  # whoever asked waits no more
        try:
            async with asyncio.timeout(self._limit_s):
                answer = await request.do(connection)
        except BaseException as error:
            is_refused = isinstance(error, StoreError)
            request.fail(error if is_refused else _unavailable(error))
            if not is_refused:
                raise
        else:
            if not request.done.done():
                request.done.set_result(answer)

    async def _beat(self, connection: Connection) -> None:
        before_ms = self._now_ms()
        async with asyncio.timeout(self._limit_s):
            beat = await self.owners.beat(connection, self.host)
            after_ms = self._now_ms()
            if not beat.is_known:  # forgotten, as gone: it is another life under the same name
                beat = await self._register(connection)
        self.skew_s = ((before_ms + after_ms) / 2 - beat.at_ms) / 1000
        self.on_beat(beat)

    def _living(self) -> Connection:
        connection = self._connection
        if connection is None or connection.is_closed():
            raise StoreUnavailable("the connection to the database was lost")
        return connection

    def _terminated(self, connection: Connection) -> None:
        self._wake.set()  # it is seen to be closed

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        self._bells.clear()
        requests, self._requests = self._requests, deque()
        for request in requests:
            request.fail(_unavailable(None))
        if connection is not None:
            connection.remove_termination_listener(self._terminated)
            try:
                async with asyncio.timeout(self._limit_s):
                    await connection.close()
            except Exception:
                connection.terminate()

    async def _request(self, do: Callable[[Connection], Awaitable[Any]]) -> Any:
        if self._connection is None or self._is_closing:
            raise _unavailable(None)
        request = _Request(do, asyncio.get_running_loop().create_future())
        self._requests.append(request)
        self._wake.set()
        return await request.done


def _unavailable(error: BaseException | None) -> StoreUnavailable:
    why = "there is no connection" if error is None else said(error)
    failure = StoreUnavailable(f"the session with the database: {why}")
    failure.__cause__ = error
    return failure
