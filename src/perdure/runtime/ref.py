"""The address of an instance: a pykka ``ActorRef`` that outlives every incarnation.

    order = runtime.ref(OrderFulfilment, "o-1")
    order.tell(PaymentReceived("o-1"))                     # from any thread
    order.ask(GetStatus("o-1"), block=False).get(timeout=5)

pykka's own ``tell``, ``ask`` and ``stop`` work on it unchanged, since its inbox is the way to the
supervisor. Knows no store. Next to read: ``handoff.py`` (from other threads),
``instances/supervisor.py``.
"""

from __future__ import annotations

import asyncio
from typing import Any, NoReturn, Protocol

import pykka

from perdure.actors import Envelope
from perdure.errors import DefinitionError
from perdure.runtime.instances.saga_actor import SagaActor

__all__ = ["SagaRef", "Seen", "checked_ref"]


class Seen(Protocol):
    """An instance as it is named in a listing or a receipt; its id is encoded text."""

    @property
    def saga(self) -> str: ...

    @property
    def correlation_id(self) -> str: ...


class Entrance(Protocol):
    """Where the envelopes of refs go; any thread."""

    def put(self, ref: SagaRef, envelope: Envelope[Any]) -> None: ...


class _Inbox:
    """What pykka puts envelopes into: the entrance, with the address on it."""

    __slots__ = ("entrance", "ref")

    def __init__(self, ref: SagaRef, entrance: Entrance) -> None:
        self.ref = ref
        self.entrance = entrance

    def put(self, envelope: Envelope[Any], /) -> None:
        self.entrance.put(self.ref, envelope)

    def get(self) -> NoReturn:
        raise RuntimeError("the inbox of a saga ref is written only")

    def empty(self) -> bool:
        return True


def checked_ref(ref: object) -> SagaRef:
    """The ref itself. Raises ``DefinitionError`` for anything else."""
    if isinstance(ref, SagaRef):
        return ref
    raise DefinitionError(
        f"{ref!r} is no ref",
        remedy='give runtime.ref(Order, "o-1"), or runtime.ref_to(…) of a listed instance',
    )


class SagaRef(pykka.ActorRef[SagaActor]):
    """Names an instance by saga and correlation id, be it resident, passive or not yet there.

    ``stop()`` lets the instance leave memory if it is idle. ``proxy()`` is refused: a proxy would
    change state past the journal. Refs are equal if they name the same instance.
    """

    def __init__(
        self, saga: str, correlation_id: str, entrance: Entrance, supervisor: pykka.ActorRef[Any]
    ) -> None:
        # Not super().__init__(): it takes an incarnation, and this ref outlives them.
        self.saga = saga
        self.correlation_id = correlation_id
        self.actor_class = SagaActor
        self.actor_urn = f"urn:perdure:{saga}/{correlation_id}"
        self.actor_inbox = _Inbox(self, entrance)
        self.actor_stopped = supervisor.actor_stopped

    @property
    def key(self) -> str:
        """The name of the instance in the store."""
        return f"{self.saga}/{self.correlation_id}"

    def ask(self, message: Any, *, block: bool = True, timeout: float | None = None) -> Any:
        """As pykka's; refused *before* sending where waiting would block an event loop."""
        if block and asyncio._get_running_loop() is not None:
            raise RuntimeError(
                f"asking {self.saga} {self.correlation_id!r} would block the event loop, nothing "
                f"was sent; use await ref.ask(…, block=False), or await runtime.send(ref, …)"
            )
        return super().ask(message, block=block, timeout=timeout)

    def proxy(self) -> NoReturn:
        raise TypeError(
            f"no proxy for {self.saga} {self.correlation_id!r}: it would change state past the "
            f"journal; send messages with tell, ask, or Runtime.send"
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SagaRef) and self.actor_urn == other.actor_urn

    def __hash__(self) -> int:
        return hash(self.actor_urn)

    def __repr__(self) -> str:
        return f"<SagaRef {self.saga} {self.correlation_id!r}>"

    __str__ = __repr__
