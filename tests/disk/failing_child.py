"""A process that writes turns, one after another, to a disk that fails.

python -m tests.disk.failing_child FILE TURNS [BYTES]     BYTES: how large a file may grow, at first

Prints a line per send: "ok ID" or "no ID ERROR"; "room" when the limit is lifted.
"""

from __future__ import annotations

import asyncio
import resource
import signal
import sys

from perdure import Runtime, Settings
from perdure.errors import PerdureError
from tests.sagas import Basket, Filled


async def send(runtime: Runtime, number: int) -> bool:
    id = f"m-{number}"
    try:
        await runtime.publish(Filled("x", [*range(2_000)]), message_id=id)
    except PerdureError as error:
        print("no", id, type(error).__name__, flush=True)
        return False
    print("ok", id, flush=True)
    return True


async def run(url: str, turns: int, bytes_max: int) -> None:
    settings = Settings(retry_pause_s=0.01, snapshot_every=5)
    runtime = Runtime(url, [Basket], settings)
    await runtime.start()
    ref = runtime.ref(Basket, "x")
    if bytes_max:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_max, resource.RLIM_INFINITY))
    was_full = False
    for number in range(turns):
        fine = await send(runtime, number)
        if bytes_max and not fine and not was_full:
            was_full = True
            view = await runtime.state(ref)  # reads go on
            print("reads", 0 if view is None else view.sequence_nr, flush=True)
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
            print("room", flush=True)
    await runtime.stop()


if __name__ == "__main__":
    asyncio.run(run(f"sqlite:///{sys.argv[1]}", int(sys.argv[2]), int([*sys.argv, "0"][3])))
