"""A process whose every acknowledged turn is written down in a file beside the database.

python -m tests.disk.turns_child FILE TURNS SYNCHRONOUS [PAGES]     PAGES: checkpoint after so many
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Literal, cast

from perdure import Runtime, Settings, SqlStore
from perdure.store import sqlite_connection
from tests.sagas import Added, Ledger, Opened

LEDGERS = 5


async def run(path: Path, turns: int, synchronous: Literal["FULL", "NORMAL"]) -> None:
    acks = os.open(path.with_name("acks"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    store = SqlStore(f"sqlite+aiosqlite:///{path}", synchronous=synchronous)
    async with Runtime(store, [Ledger], Settings(snapshot_every=10)) as runtime:

        async def one(ledger: int) -> None:
            id = str(ledger)
            await runtime.publish(Opened(id), message_id=f"{id}-open")
            os.write(acks, f"{id}-open\n".encode())
            for n in range(turns // LEDGERS):
                await runtime.publish(Added(id, n), message_id=f"{id}-{n}")
                os.write(acks, f"{id}-{n}\n".encode())
                await asyncio.sleep(0)

        await asyncio.gather(*map(one, range(LEDGERS)))


if __name__ == "__main__":
    if len(sys.argv) > 4:
        sqlite_connection.CHECKPOINT_PAGES = int(sys.argv[4])
    level = cast(Literal["FULL", "NORMAL"], sys.argv[3])
    asyncio.run(run(Path(sys.argv[1]), int(sys.argv[2]), level))
