"""What a command that gets no answer waits for: said on stderr, before people wonder.

    waiting = Waiting(overview_of(runtime.store))
    async with waiting.told("Order/o-1"):
        await runtime.send(...)       # stderr: no answer yet: shard 7 has no live owner, ...

Knows the owners of shards, and nothing of what was asked. Next to read: ``targets.py``, which asks;
``store/overview.py``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from perdure.errors import StoreError
from perdure.ops.cli.output import Output
from perdure.ops.wording import span
from perdure.store.overview import Overview, owner_of
from perdure.store.ownership import HostRow

__all__ = ["SOON_S", "Waiting"]

SOON_S = 1.0
"""An answer that has not come by then is worth a word; and how often it is looked again."""

SILENT_S = 2.0
"""A host that beats is not heard of every moment; longer, and it hangs, or is gone."""

_IN_MAIL = "what was sent stays in the mail until one comes"


class Waiting:
    """Says who is waited for, each of them once, however many wait."""

    def __init__(self, overview: Overview | None) -> None:
        self._overview = overview
        self._said: set[object] = set()

    @asynccontextmanager
    async def told(self, key: str | None) -> AsyncIterator[None]:
        """Tell while this is under way; ``key`` is the instance that shall answer, if it is one."""
        if self._overview is None:
            yield
            return
        telling = asyncio.get_running_loop().create_task(self._tell(self._overview, key))
        try:
            yield
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)

    async def _tell(self, overview: Overview, key: str | None) -> None:
        while True:
            await asyncio.sleep(SOON_S)
            try:
                hosts = await overview.hosts()
            except StoreError as error:
                self._say("store", str(error))
                continue
            if key is None:
                self._tell_of_all(overview.shards, hosts)
            else:
                self._tell_of(overview.shard_of(key), key, owner_of(overview.shard_of(key), hosts))

    def _tell_of(self, shard: int, key: str, owner: HostRow | None) -> None:
        if owner is None:
            self._say(shard, f"shard {shard}, where {key} is, has no live owner; {_IN_MAIL}")
        else:
            self._say(owner.host, f"{key} is in shard {shard} of {owner.name}, {_how(owner)}")

    def _tell_of_all(self, shards: int, hosts: Sequence[HostRow]) -> None:
        owned = {shard for host in hosts if not host.is_gone for shard in host.shards}
        if count := shards - len(owned):
            self._say("owners", f"{count} of {shards} shards have no live owner; {_IN_MAIL}")
        for host in hosts:
            if host.shards and not host.is_gone and host.silent_s > SILENT_S:
                count = len(host.shards)
                self._say(host.host, f"{host.name} owns {count} of {shards} shards, {_how(host)}")

    def _say(self, what: object, text: str) -> None:
        if what not in self._said:
            self._said.add(what)
            Output(as_json=False).note(f"no answer yet: {text}")


def _how(host: HostRow) -> str:
    return f"pid {host.pid}, last heard of {span(host.silent_s)} ago"
