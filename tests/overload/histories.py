"""One instance with a very long history: read page by page, while the others go on."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from pathlib import Path

from perdure import Runtime, SqlStore
from perdure.core.commit import TurnRecord
from tests.overload.common import HANDLED, Figures, Hit, Peak, SlowStore, Tally, check_numbers

GROUP = 5_000
PAGE = 1_000


@dataclass(frozen=True)
class Sizes:
    turns: int = 20_000


FULL = Sizes(turns=1_000_000)


async def build(url: str, turns: int) -> None:
    """As many turns as wanted, as a runtime writes them, but through the store."""
    async with Runtime(SqlStore(url, synchronous="NORMAL"), [Tally]) as runtime:
        await runtime.publish(Hit("long", "s", 1))
        await runtime.publish(Hit("short", "s", 1))
        await runtime.publish(Hit("warm", "s", 1))
    store = SqlStore(url, synchronous="NORMAL")
    epoch = await store.open()
    [row] = await store.journal(f"{Tally.name}/long")
    for start in range(2, turns + 1, GROUP):
        group = [
            TurnRecord(replace(row, sequence_nr=number, epoch=epoch, message_id=f"m-{number}"))
            for number in range(start, min(start + GROUP, turns + 1))
        ]
        assert not any(await store.write(group))
    await store.close()


async def long_history(directory: Path, sizes: Sizes = Sizes()) -> Figures:
    """Others have their turns while it is rehydrated; nothing holds more than a few pages."""
    url = f"sqlite+aiosqlite:///{directory}/long.db"
    await build(url, sizes.turns)
    store = SlowStore(SqlStore(url, synchronous="NORMAL"))
    async with Runtime(store, [Tally]) as runtime:
        long, short, warm = (runtime.ref(Tally, id) for id in ("long", "short", "warm"))
        await runtime.send(warm, Hit("warm", "s", 2))
        peak = Peak()
        rehydrating = asyncio.create_task(runtime.send(long, Hit("long", "s", -1)))
        while not store.calls["journal"]:  # noqa: ASYNC110 - the loop's turns are waited for
            await asyncio.sleep(0)
        await runtime.send(short, Hit("short", "s", 2))  # cold: rehydrated meanwhile
        assert not rehydrating.done()
        turns = 0
        while not rehydrating.done():
            await runtime.send(warm, Hit("warm", "s", 3 + turns))
            turns += 1
        receipt = await rehydrating
        rehydrated = peak.grown_bytes
        pages = store.calls["journal"]
        peak = Peak()
        assert (receipt.sequence_nr, receipt.reply) == (sizes.turns + 1, sizes.turns + 1)
        shown = 0
        async for turn in runtime.history(long):
            shown += 1
            assert turn.sequence_nr == shown
        assert shown == sizes.turns + 1
        history = peak.grown_bytes
        await check_numbers(runtime, store)
    HANDLED.clear()
    return {
        "turns": sizes.turns,
        "pages": pages,
        "others' turns meanwhile": turns,
        "bytes grown, rehydrating": rehydrated,
        "bytes grown, shown": history,
    }
