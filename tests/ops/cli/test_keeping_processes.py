"""The parent of several processes: what it starts, starts again, drains and gives up."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from perdure.errors import DefinitionError
from perdure.ops.cli.child import Parent
from perdure.ops.cli.exits import Exit
from perdure.ops.cli.processes import Processes

ROOT = Path(__file__).parent.parent.parent.parent
SOON_S = 20.0

CHILD = """
import os, signal, socket, sys
how, line = sys.argv[1], socket.socket(fileno=int(sys.argv[-1]))
if how.startswith("ends"):
    sys.exit(int(how[4:]))
def on_signal(*_):
    if how == "hangs":
        os.write(2, b"hanging\\n")
    else:
        sys.exit(3 if how == "fails" else 0)
signal.signal(signal.SIGTERM, on_signal)
line.send(b"1")
if how.startswith("dies"):
    sys.exit(int(how[4:]))
line.recv(1)  # until the parent has gone
while how == "hangs":
    signal.pause()
"""


def command(how: str) -> list[str]:
    """A process that is up soon, and ends as told; or one that does not."""
    return [sys.executable, "-S", "-c", CHILD, how]


class Heard(logging.Handler):
    """What the parent logs, as the test's signal."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self._came = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())
        self._came.set()

    async def until(self, pattern: str, times: int = 1) -> list[str]:
        """Wait for so many lines with this in them; what its group found."""
        async with asyncio.timeout(SOON_S):
            while True:
                found = [match[match.lastindex or 0] for match in self.of(pattern)]
                if len(found) >= times:
                    return found
                self._came.clear()
                await self._came.wait()

    def of(self, pattern: str) -> Iterator[re.Match[str]]:
        return (match for line in self.lines if (match := re.search(pattern, line)))


Play = Callable[[Heard], Awaitable[None]]


def kept(hows: Sequence[str], play: Play, **more: Any) -> tuple[Exit, Heard]:
    """What the parent ends with, and what it has logged, when this happens meanwhile."""
    logger = logging.getLogger("perdure.run")

    async def main() -> tuple[Exit, Heard]:
        heard = Heard()
        logger.addHandler(heard)
        before, logger.level = logger.level, logging.INFO
        try:
            parent = Processes([command(how) for how in hows], pause_s=0.01, **more)
            async with asyncio.timeout(2 * SOON_S):
                ended, _ = await asyncio.gather(parent.run(), play(heard))
            return ended, heard
        finally:
            logger.level = before
            logger.removeHandler(heard)

    return asyncio.run(main())


def told(signum: int = signal.SIGTERM) -> None:
    os.kill(os.getpid(), signum)


async def nothing(heard: Heard) -> None: ...


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_all_are_started_and_drained_together_on_a_signal(signum: int) -> None:
    async def play(heard: Heard) -> None:
        await heard.until(r"is up, pid (\d+)", times=3)
        told(signum)

    ended, heard = kept(["serves"] * 3, play)
    assert ended is Exit.OK
    assert "process 1 of 3" in heard.lines[0]
    assert len(list(heard.of(r"draining 3 processes"))) == 1
    assert len(list(heard.of(r"pid \d+, has ended with 0 after"))) == 3


def test_one_that_is_killed_is_started_again_and_the_others_go_on() -> None:
    async def play(heard: Heard) -> None:
        pids = await heard.until(r"is up, pid (\d+)", times=3)
        os.kill(int(pids[1]), signal.SIGKILL)
        assert len(set(await heard.until(r"is up, pid (\d+)", times=4))) == 4
        told()

    ended, heard = kept(["serves"] * 3, play)
    assert ended is Exit.OK
    assert len(list(heard.of("was ended by SIGKILL after"))) == 1
    assert len(list(heard.of(r"is started again in 10 ms \(1 of 10 in a row\)"))) == 1


def test_one_that_ends_in_order_by_itself_is_started_again() -> None:
    async def play(heard: Heard) -> None:
        pids = await heard.until(r"is up, pid (\d+)", times=2)
        os.kill(int(pids[0]), signal.SIGTERM)
        await heard.until(r"is up, pid (\d+)", times=3)
        told()

    ended, heard = kept(["serves"] * 2, play)
    assert ended is Exit.OK
    assert list(heard.of(r"has ended with 0 after"))


@pytest.mark.parametrize(
    ("how", "exit"), [("ends2", Exit.USAGE), ("ends5", Exit.STORE), ("ends77", Exit.FAILED)]
)
def test_the_first_that_does_not_come_up_ends_it_all_before_others_are_started(
    how: str, exit: Exit
) -> None:
    ended, heard = kept([how] * 3, nothing)
    assert ended is exit
    assert len(list(heard.of(r"pid \d+, has ended with"))) == 1
    assert list(heard.of("the first process has not come up"))


def test_one_that_dies_too_often_in_a_row_ends_all_with_its_code() -> None:
    ended, heard = kept(["serves", "ends5"], nothing, restarts_max=3)
    assert ended is Exit.STORE
    assert len(list(heard.of("process 2 is started again"))) == 3
    pauses = [match[1] for match in heard.of(r"started again in (.*) \(")]
    assert pauses == ["10 ms", "20 ms", "40 ms"]
    assert list(heard.of("process 2 has ended with 5, 4 times in a row: it ends all"))
    assert list(heard.of(r"process 1, pid \d+, has ended with 0"))


def test_one_that_dies_once_it_is_up_is_given_up_in_the_end_as_well() -> None:
    ended, heard = kept(["dies1", "serves"], nothing, restarts_max=2)
    assert ended is Exit.FAILED
    assert len(list(heard.of("process 1 of 2 is up"))) >= 1


def test_what_does_not_drain_in_order_is_a_failure() -> None:
    async def play(heard: Heard) -> None:
        await heard.until("is up", times=2)
        told()

    ended, heard = kept(["serves", "fails"], play)
    assert ended is Exit.FAILED
    assert list(heard.of("process 2 has not drained: it has ended with 3"))


def test_a_second_signal_ends_at_once_what_hangs(capfd: pytest.CaptureFixture[str]) -> None:
    def hanging() -> None:
        while "hanging" not in capfd.readouterr().err:
            time.sleep(0.01)

    async def play(heard: Heard) -> None:
        await heard.until("is up", times=2)
        told()
        await heard.until("process 1, pid")
        await asyncio.to_thread(hanging)
        told()

    ended, heard = kept(["serves", "hangs"], play)
    assert ended is Exit.FAILED
    assert list(heard.of("process 2 has not drained: it was ended by SIGKILL"))


def test_told_to_stop_before_anybody_is_up_it_stops() -> None:
    async def play(heard: Heard) -> None:
        await asyncio.sleep(0)
        told()

    ended, heard = kept(["serves"] * 2, play)
    assert ended is Exit.OK
    assert not list(heard.of("is up"))


def test_a_program_that_is_not_there_ends_it_all() -> None:
    async def main() -> Exit:
        return await Processes([["/no/such/program"]], pause_s=0.01).run()

    assert asyncio.run(main()) is Exit.FAILED


KEEPS = """
import asyncio, logging, sys
from perdure.ops.cli.processes import Processes
logging.basicConfig(level=logging.INFO, format="%(message)s")
asyncio.run(Processes([[sys.executable, "-S", "-c", sys.argv[1], "serves"]] * 2).run())
"""


def test_the_children_of_a_parent_that_was_killed_end_by_themselves() -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", KEEPS, CHILD],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        stderr=subprocess.PIPE,
        text=True,
    )
    with parent:
        assert parent.stderr is not None
        for count, line in enumerate(parent.stderr, 1):
            assert "is up" in line
            if count == 2:
                break
        parent.kill()
        # The children hold this end of the pipe as well: it is closed when all are gone.
        assert parent.stderr.read() == ""


def test_a_number_that_is_no_socket_is_refused() -> None:
    with open(os.devnull) as file, pytest.raises(DefinitionError, match="--parent"):
        Parent(file.fileno())


def test_what_the_user_starts_does_not_hold_the_line_to_the_parent() -> None:
    ours, theirs = socket.socketpair()
    descriptor = theirs.detach()
    os.set_inheritable(descriptor, True)

    async def main() -> None:
        gone = asyncio.Event()
        parent = Parent(descriptor)
        assert not os.get_inheritable(descriptor)
        parent.when_gone(gone.set)
        parent.tell_up()
        assert ours.recv(1) == b"1"
        ours.close()
        async with asyncio.timeout(SOON_S):
            await gone.wait()
        parent.close()

    asyncio.run(main())
