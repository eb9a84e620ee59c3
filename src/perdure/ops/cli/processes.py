"""The parent of ``perdure run --processes N``: it starts processes, and again those that die.

    ended = await Processes([command_of(1), command_of(2), command_of(3)]).run()

It runs none of the user's code and opens no store. Each process is an interpreter of its own, no
fork: nothing of a loop, a thread or a connection is shared. The first one has to come up before the
others are started, so that a mistake is said once, and ends it all.

SIGTERM and SIGINT drain all of them together; a second one ends them at once, by SIGKILL. A process
that drains may be told so again, as by whoever tells a whole group. One that dies is started again
after a pause that grows; one that has died too often in a row ends it all, since whoever has
started the parent sees only that. Next to read: ``child.py``.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TypeAlias

from perdure.ops.cli.child import Child
from perdure.ops.cli.exits import Exit
from perdure.ops.wording import counted, span
from perdure.runtime.supervised import growing_s

__all__ = ["RESTARTS_MAX", "Command", "Processes"]

logger = logging.getLogger("perdure.run")

Command: TypeAlias = Sequence[str]

PAUSE_S = 0.5
"""Before the first restart; doubled each time in a row, up to 32 s."""

STEADY_S = 10.0
"""The death of one that has lived so long is the first in a row."""

RESTARTS_MAX = 10
"""In a row: after about two minutes it is given up."""

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Processes:
    """Keeps one process of each command alive, until it is told to stop.

    ``restarts_max``: so many times in a row one is started again that dies within ten seconds of
    its start. ``pause_s``: before the first of them. ``environment``: of each, over our own; what
    nobody else may see stands there, since all users of the machine see command lines.
    """

    def __init__(
        self,
        commands: Sequence[Command],
        *,
        restarts_max: int = RESTARTS_MAX,
        pause_s: float = PAUSE_S,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._commands = commands
        self._environment = environment or {}
        self._restarts_max = restarts_max
        self._pause_s = pause_s
        self._children: dict[int, Child] = {}
        self._goes_on = asyncio.Event()  # one has come up, or it is over before that
        self._stopping = asyncio.Event()
        self._exit = Exit.OK

    async def run(self) -> Exit:
        """Run them until told to stop: ``OK`` if that was so, and all have drained.

        Else ``USAGE`` or ``STORE``, if that is what one ended with that was given up; or
        ``FAILED``.
        """
        loop = asyncio.get_running_loop()
        for one in SIGNALS:
            loop.add_signal_handler(one, self._on_signal, one)
        try:
            async with asyncio.TaskGroup() as keepers:
                for number in range(1, len(self._commands) + 1):
                    keepers.create_task(self._keep(number))
        finally:
            for one in SIGNALS:
                loop.remove_signal_handler(one)
        return self._exit

    def _on_signal(self, signum: signal.Signals) -> None:
        what = "ending" if self._stopping.is_set() else "draining"
        logger.info("%s: %s %s", signum.name, what, self._all)
        self._stop(Exit.OK)

    def _stop(self, exit: Exit) -> None:
        """Have all of them drain; called again, have them end at once."""
        is_again = self._stopping.is_set()
        if not is_again:
            self._exit = exit
            self._stopping.set()
            self._goes_on.set()
        for child in self._children.values():
            child.tell(signal.SIGKILL if is_again else signal.SIGTERM)

    @property
    def _all(self) -> str:
        return counted(len(self._children), "process", "processes")

    async def _keep(self, number: int) -> None:
        """One process, over and over."""
        deaths = 0
        if number > 1:
            await self._goes_on.wait()
        while not self._stopping.is_set():
            child, code = await self._life(number)
            if self._stopping.is_set():
                self._has_stopped(number, child, code)
                return
            if not self._goes_on.is_set():
                logger.error("the first process has not come up: it %s", _how(code))
                self._stop(_exit_of(code))
                return
            deaths = 1 if child is not None and child.lived_s >= STEADY_S else deaths + 1
            if deaths > self._restarts_max:
                often = counted(deaths, "time")
                logger.error("process %d %s, %s in a row: it ends all", number, _how(code), often)
                self._stop(_exit_of(code))
                return
            await self._pause(number, code, deaths)

    async def _life(self, number: int) -> tuple[Child | None, int]:
        """A process from its start to its end, and how it ended. None if it could not start."""
        try:
            child = await Child.start(self._commands[number - 1], self._environment)
        except OSError as error:
            logger.error("process %d cannot be started: %s", number, error)
            return None, Exit.FAILED
        self._children[number] = child
        if self._stopping.is_set():  # it has missed the signal
            child.tell(signal.SIGTERM)

        def on_up() -> None:
            logger.info("process %d of %d is up, pid %d", number, len(self._commands), child.pid)
            self._goes_on.set()

        try:
            code = await child.ended(on_up)
        finally:
            del self._children[number]
        logger.log(
            logging.INFO if self._stopping.is_set() else logging.WARNING,
            "process %d, pid %d, %s after %s", number, child.pid, _how(code), span(child.lived_s),
        )  # fmt: skip
        return child, code

    async def _pause(self, number: int, code: int, deaths: int) -> None:
        pause_s = growing_s(self._pause_s, deaths)
        again = f"{deaths} of {self._restarts_max} in a row"
        logger.warning("process %d is started again in %s (%s)", number, span(pause_s), again)
        with suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await self._stopping.wait()

    def _has_stopped(self, number: int, child: Child | None, code: int) -> None:
        is_unborn = child is None or (not child.is_up and code == -signal.SIGTERM)
        if code != 0 and not is_unborn and self._exit is Exit.OK:
            logger.error("process %d has not drained: it %s", number, _how(code))
            self._exit = Exit.FAILED


def _how(code: int) -> str:
    if code >= 0:
        return f"has ended with {code}"
    with suppress(ValueError):
        return f"was ended by {signal.Signals(-code).name}"
    return f"was ended by signal {-code}"


def _exit_of(code: int) -> Exit:
    """What we end with when one that ended so is given up."""
    return Exit(code) if code in (Exit.USAGE, Exit.STORE) else Exit.FAILED
