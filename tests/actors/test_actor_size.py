"""How little an idle actor costs, and that a dead one costs nothing."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc

from perdure.actors import Actor, Envelope
from tests.actors.until import until


class Bare(Actor):
    def on_receive(self, message: object) -> None:
        pass


def test_an_idle_spawned_actor_is_small() -> None:
    count = 10_000
    kept: list[Bare] = []

    async def test() -> None:
        Bare.spawn()
        await asyncio.sleep(0)
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        kept.extend(Bare.spawn() for _ in range(count))
        for actor in kept:
            actor.actor_inbox.put(Envelope("hello"))
        await until(lambda: all(actor.is_idle for actor in kept))
        gc.collect()
        assert (tracemalloc.get_traced_memory()[0] - before) / count < 600
        for actor in kept:
            assert actor.actor_ref.actor_urn
        assert (tracemalloc.get_traced_memory()[0] - before) / count < 1200
        assert len(asyncio.all_tasks()) == 1

    tracemalloc.start()
    try:
        asyncio.run(test())
    finally:
        tracemalloc.stop()


def test_a_dead_actor_is_freed_without_the_garbage_collector() -> None:
    async def test() -> None:
        actor = Bare.spawn()
        ref = actor.actor_ref
        assert await ref.ask("hello", block=False) is None
        await asyncio.sleep(0)
        actor.end()
        del actor
        assert ref._actor_weakref() is None

    gc.disable()
    try:
        asyncio.run(test())
    finally:
        gc.enable()
