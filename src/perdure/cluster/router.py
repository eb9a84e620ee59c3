"""The router of a process: from the runtime that accepts a message to the one that owns its instance.

router = Router(mail, doorbell, shards=16, name="pod-1", services=...)
front = Runtime.of(replace(blueprint, elsewhere=router.front))       # owns nothing
part = Runtime.of(replace(blueprint, store=..., elsewhere=router.of(3)))   # owns shard 3
await router.begin(3, part)                                          # after its start
await router.end(3)                                                  # before its stop
await router.stop()                                                  # after the front's stop
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure.cluster.doorbell import Doorbell
from perdure.runtime.elsewhere import Elsewhere
from perdure.store.mail import Mail

if TYPE_CHECKING:
    from perdure.runtime.runtime import Runtime

__all__ = ["Router"]


class Router:
    """One per process, shared by its front and its runtimes of shards; on their loop.

    ``reply_channel`` is this process's own, to which answers are notified; ``bell_of(shard)`` the
    channel at which the owner of a shard is rung for.
    """

    def __init__(self, mail: Mail, doorbell: Doorbell, shards: int, reply_channel: str) -> None:
        raise NotImplementedError

    @property
    def front(self) -> Elsewhere:
        """For the runtime that owns nothing."""
        raise NotImplementedError

    def of(self, shard: int) -> Elsewhere:
        """For the runtime of a shard."""
        raise NotImplementedError

    async def start(self) -> None:
        """Hear answers. Before the first runtime starts."""
        raise NotImplementedError

    async def begin(self, shard: int, runtime: Runtime) -> None:
        """This process owns the shard, and its runtime is up: take its mail (an ``Intake``)."""
        raise NotImplementedError

    async def end(self, shard: int) -> None:
        """Take no more mail of the shard: its runtime is about to stop. May be called twice."""
        raise NotImplementedError

    async def stop(self) -> None:
        """Everything has stopped: hear nothing more."""
        raise NotImplementedError
