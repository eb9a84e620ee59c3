"""One process that a parent has started, and the pair of sockets between the two.

    child = await Child.start(["perdure", "run", "shop:runtime"], {})       # in the parent
    code = await child.ended()

    parent = Parent(given_by_the_option)                                # in the child
    parent.tell_up()
    parent.when_gone(stop)

By its end, given as ``--parent FD``, the child tells that it is up. When the parent has gone,
killed or not, the child's end is at its end: so it does not go on without anybody who would tell
it to stop. Next to read: ``processes.py``, the parent; ``running.py``, the child.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Self

from perdure.errors import DefinitionError

__all__ = ["PARENT_OPTION", "Child", "Parent"]

PARENT_OPTION = "--parent"


class Child:
    """A process from its start to its end, as its parent sees it."""

    def __init__(self, process: asyncio.subprocess.Process, line: socket.socket) -> None:
        self._process = process
        self._line = line
        self._loop = asyncio.get_running_loop()
        self._began_s = self._loop.time()
        self.is_up = False

    @classmethod
    async def start(cls, command: Sequence[str], environment: Mapping[str, str]) -> Self:
        """Start it, in an interpreter of its own. Raises ``OSError``.

        ``environment`` is laid over that of this process.
        """
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        try:
            with theirs:
                process = await asyncio.create_subprocess_exec(
                    *command,
                    PARENT_OPTION,
                    str(theirs.fileno()),
                    env={**os.environ, **environment},
                    stdin=asyncio.subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    process_group=0,  # or Ctrl-C would reach it twice: by the terminal, and by us
                )
        except BaseException:
            ours.close()
            raise
        return cls(process, ours)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def lived_s(self) -> float:
        """So many seconds ago it was started."""
        return self._loop.time() - self._began_s

    def tell(self, signum: signal.Signals) -> None:
        """Send it a signal, unless it has ended."""
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.send_signal(signum)

    async def ended(self, on_up: Callable[[], None]) -> int:
        """Wait for its end: the exit code, or minus the signal. ``on_up`` hears that it is up."""
        listening = self._loop.create_task(self._listen(on_up))
        try:
            return await self._process.wait()
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
            self._line.close()

    async def _listen(self, on_up: Callable[[], None]) -> None:
        with suppress(ConnectionError):
            if await self._loop.sock_recv(self._line, 1):
                self.is_up = True
                on_up()


class Parent:
    """The parent, as a process sees it that was started with ``--parent``.

    Raises ``DefinitionError`` for a number that is no socket: nobody but a parent gives one.
    """

    def __init__(self, descriptor: int) -> None:
        try:
            self._line = socket.socket(fileno=descriptor)
            self._line.setblocking(False)
        except OSError as error:
            raise DefinitionError(
                f"{PARENT_OPTION} {descriptor}: {error.strerror}",
                remedy="leave it away: it is for processes that --processes has started",
            ) from error
        os.set_inheritable(descriptor, False)  # what the user's code starts is not ours

    def tell_up(self) -> None:
        """The runtime has started."""
        with suppress(OSError):
            self._line.send(b"1")

    def when_gone(self, call: Callable[[], None]) -> None:
        """Call this once when the parent has gone."""
        loop = asyncio.get_running_loop()

        def on_readable() -> None:
            loop.remove_reader(self._line)
            call()

        loop.add_reader(self._line, on_readable)

    def close(self) -> None:
        """Hear no more of it."""
        asyncio.get_running_loop().remove_reader(self._line)
        self._line.close()
