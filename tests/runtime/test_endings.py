"""Who waits for the end of an instance, and what is left of that."""

from __future__ import annotations

import asyncio
import gc

from perdure.runtime.instances.endings import Endings


def test_who_has_found_the_end_otherwise_leaves_no_error_behind():
    async def run() -> list[str]:
        said: list[str] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: said.append(context["message"]))
        endings = Endings()
        waiter = endings.expect("Order/o-1")
        endings.close()  # the runtime stops, while the instance is read from the store
        endings.forget("Order/o-1", waiter)
        del waiter
        gc.collect()
        return said

    assert asyncio.run(run()) == []
