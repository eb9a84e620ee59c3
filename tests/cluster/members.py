"""Processes of a cluster, started by a test: what they say and own. Next to read: ``member.py``."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from pathlib import Path

from perdure.cluster import Cluster, ClusterSettings

__all__ = ["Member", "member", "owns"]

ROOT = Path(__file__).parents[2]


async def owns(runtime: Cluster, count: int) -> None:
    """Wait until this process owns so many shards; the test's own limit ends it otherwise."""
    while len(runtime.host.owned) != count:  # noqa: ASYNC110 - the state of another's task
        await asyncio.sleep(0.01)


class Member:
    """A process, and the lines that it has said."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.said: list[str] = []
        self.owned: list[int] = []
        self._changed = asyncio.Event()
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            text = line.decode().strip()
            if text.startswith("owns "):
                self.owned = json.loads(text.removeprefix("owns "))
            self.said.append(text)
            self._changed.set()

    async def says(self, text: str) -> None:
        """Wait until it has said so."""
        while text not in self.said:
            await self._change(text)

    async def mentions(self, *words: str) -> str:
        """Wait until it has said a line with all of these; the line."""
        while not (found := [line for line in self.said if all(word in line for word in words)]):
            await self._change(" … ".join(words))
        return found[0]

    async def owns(self, count: int) -> list[int]:
        """Wait until it owns so many shards."""
        while len(self.owned) != count:
            await self._change(f"owns {count}")
        return self.owned

    async def _change(self, awaited: str) -> None:
        self._changed.clear()
        changed = asyncio.create_task(self._changed.wait())
        await asyncio.wait([changed, self._reading], return_when=asyncio.FIRST_COMPLETED)
        changed.cancel()
        assert not self._reading.done() or self._changed.is_set(), f"{awaited!r}: {self.said}"

    def send(self, name: str, first: int, count: int) -> None:
        """Have it send these numbers to a ledger."""
        self.tell(f"send {name} {first} {count}")

    def tell(self, line: str) -> None:
        """Give it a line of input."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n".encode())

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.process.pid, number)

    async def ended(self) -> int:
        """Wait until it has ended; its exit code."""
        code = await self.process.wait()
        await self._reading
        return code


@asynccontextmanager
async def member(
    url: str, name: str, settings: ClusterSettings, program: str = "tests.cluster.member"
) -> AsyncIterator[Member]:
    """A process that has joined; it is gone afterwards."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", program, url, name, json.dumps(asdict(settings)),
        cwd=ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    made = Member(process)
    try:
        await made.says("up")
        yield made
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await made.ended()
