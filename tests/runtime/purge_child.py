"""A process that does nothing but purge, and is killed in the midst of it.

    python -m tests.runtime.purge_child FILE K6 2

Kills itself at the second time that the point is reached; says "done" when all is purged.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import perdure.failpoints as failpoints
from perdure import Runtime
from perdure.failpoints import Point
from perdure.runtime.retention import purge_entries, purge_pieces
from tests.runtime.test_retention import Deleted


def in_small_steps() -> None:
    vars(purge_entries)["ROWS"] = 2
    vars(purge_pieces).update(ROWS=2, PIECE=2, PIECE_ROWS=4)


async def main(path: str, point: str, times: int) -> None:
    left = times

    def reached(found: Point) -> None:
        nonlocal left
        left -= found == point
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

    async with Runtime(f"sqlite+aiosqlite:///{path}", [Deleted]) as runtime:
        failpoints.listener = reached
        while True:
            await runtime.settled()
            rows = await runtime.store.tombstones(limit=1)
            if not await runtime.store.heads() and rows and rows[0].due_at_ms:
                break
            await asyncio.sleep(0.002)  # it purges piece by piece, and rests in between
        failpoints.listener = None
    print("done")


if __name__ == "__main__":
    in_small_steps()
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
