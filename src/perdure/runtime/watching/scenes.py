"""Where the runtime calls user code on the event loop, and how the watch names it there.

Read from the local variables of the calls themselves, so that no turn pays for it.
Next to read: ``loop_watch.py``, which looks.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import CodeType
from typing import Any

from perdure.core.correlation import split_key
from perdure.runtime.instances.rehydration import fold
from perdure.runtime.instances.saga_actor import SagaActor
from perdure.runtime.jobs.attempt import Attempt
from perdure.runtime.routing import Routing
from perdure.runtime.watching.loop_watch import Scene

__all__ = ["scenes"]

_LEAVE_IT = "leave what takes long to a worker of a work queue"


def scenes() -> dict[CodeType, Scene]:
    """The functions that call user code on the loop."""
    return {
        SagaActor.turn.__code__: _turn,
        Routing.verdicts.__code__: _correlating,
        fold.__code__: _folding,
        Attempt.perform.__code__: _working,
    }


def _turn(found: Mapping[str, Any]) -> tuple[str, str]:
    actor, delivery = found["self"], found["delivery"]
    return _of(actor.key, f"the turn with {delivery.message.type}"), _LEAVE_IT


def _correlating(found: Mapping[str, Any]) -> tuple[str, str]:
    who = f"correlate of saga {found['definition'].name!r}, given {found['message'].type},"
    return who, "let it look at the message only"


def _folding(found: Mapping[str, Any]) -> tuple[str, str]:
    who = _of(found["folded"].instance.key, f"folding {len(found['turns'])} turns")
    return who, "let apply only compute the next state"


def _working(found: Mapping[str, Any]) -> tuple[str, str]:
    attempt = found["self"]
    row = attempt.row
    who = f"worker {attempt.worker.name} of queue {row.target!r}, at {row.type}, job {row.id},"
    return (
        _of(row.instance, who) if row.instance else who,
        "make it a plain function (it then gets a thread), or await what it waits for",
    )


def _of(key: str, what: str) -> str:
    saga, correlation_id = split_key(key)
    return f"{what} of saga {saga!r}, correlation id {correlation_id!r},"
