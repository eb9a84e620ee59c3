"""The intake of a shard: from its rows of mail to its runtime, and the answers back.

intake = Intake(mail, shard, runtime, poll_s=0.5)      # shard=None: all of them (embedded)
intake.start()
intake.ring()                                          # the doorbell; else it polls
await intake.stop()                                    # before the runtime stops
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure.store.mail import Mail

if TYPE_CHECKING:
    from perdure.runtime.runtime import Runtime

__all__ = ["Intake"]


class Intake:
    """Reads, delivers in order per instance, deletes after the answer."""

    def __init__(
        self, mail: Mail, shard: int | None, runtime: Runtime, poll_s: float = 0.5
    ) -> None:
        raise NotImplementedError

    def start(self) -> None:
        """Begin to read."""
        raise NotImplementedError

    def ring(self) -> None:
        """There may be new rows."""
        raise NotImplementedError

    async def stop(self) -> None:
        """Read nothing more; what is delivered may still be answered, its row goes or stays."""
        raise NotImplementedError
