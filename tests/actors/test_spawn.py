"""Spawned actors: unknown to pykka's registry, unless they are enlisted."""

import asyncio

from pykka import ActorRegistry

from perdure.actors import Actor


class Root(Actor):
    """Notes that it was stopped in order."""

    was_stopped = False

    def on_stop(self) -> None:
        self.was_stopped = True


def test_a_spawned_actor_is_not_registered() -> None:
    async def scenario() -> None:
        root = Root.spawn()
        assert ActorRegistry.get_by_urn(root.actor_urn) is None
        root.end()

    asyncio.run(scenario())


def test_an_enlisted_actor_is_stopped_with_all_others() -> None:
    async def scenario() -> None:
        root = Root.spawn()
        root.enlist()
        assert ActorRegistry.get_by_urn(root.actor_urn) is root.actor_ref
        async with asyncio.timeout(5):
            await asyncio.gather(*(wait(f) for f in ActorRegistry.stop_all(block=False)))
        assert root.was_stopped
        assert ActorRegistry.get_by_urn(root.actor_urn) is None

    async def wait(future: object) -> None:
        await future  # type: ignore[misc]

    asyncio.run(scenario())


def test_an_enlisted_actor_that_ends_leaves_the_registry() -> None:
    async def scenario() -> None:
        root = Root.spawn()
        root.enlist()
        root.end()
        assert ActorRegistry.get_by_urn(root.actor_urn) is None

    asyncio.run(scenario())
