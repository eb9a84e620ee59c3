"""What another runtime asks of the one that owns an instance, and is no message to it: by name.

    await run_errand(running, Errand("Order/o-1", "release", ("Order",)))

Each is one of these and nothing else; whoever asks has checked what can be checked there.
Next to read: ``elsewhere.py``, how they come; ``repair/repair.py``, what most of them are.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from perdure.core.intervention import Action
from perdure.errors import NotRepairable
from perdure.runtime.elsewhere import Errand
from perdure.runtime.looking.reindexing import reindex
from perdure.runtime.repair.deadline_measures import cancel_deadline, set_deadline
from perdure.runtime.repair.repaired import Repaired
from perdure.runtime.repair.said import Said

if TYPE_CHECKING:
    from perdure.runtime.running import Running

__all__ = ["run_errand"]


async def run_errand(running: Running, errand: Errand) -> Any:
    """Do it here; the answer is a plain value or a ``Repaired``. Raises what that raises."""
    do = _KNOWN.get(errand.name)
    if do is None:
        raise NotRepairable(
            f"the owner of {errand.key} does not know how to {errand.name!r}",
            remedy="its process runs other code: repeat it when all run the same",
        )
    return await do(running, errand.key, *errand.arguments)


async def _release(running: Running, key: str, saga: str) -> bool:
    definition = running.repairs.definition(saga)
    return await running.supervisor.quarantine.release(definition, key)


async def _redrive(running: Running, key: str, letter_id: int, content: Any) -> bool:
    return await running.letters.redrive_as(letter_id, content)


async def _discard(running: Running, key: str, letter_id: int) -> bool:
    return await running.letters.discard(letter_id)


async def _repair(
    running: Running,
    key: str,
    by: str,
    why: str,
    dry_run: bool,
    expected: int | None,
    message_id: str | None,
    name: str,
    *arguments: Any,
) -> Repaired:
    mending = running.repairs.mending
    decide: Any = _MEASURES.get(name) or getattr(mending.measures, name)
    definition = running.repairs.definition(key.partition("/")[0])
    said = Said(by, why, dry_run, expected, message_id)
    return await mending.instance(definition, key, said, decide, *arguments)


async def _repair_letter(
    running: Running,
    key: str,
    by: str,
    why: str,
    dry_run: bool,
    expected: int | None,
    message_id: str | None,
    action: str,
    letter_id: int,
    message: Any,
) -> Repaired:
    said = Said(by, why, dry_run, expected, message_id)
    return await running.repairs.letter(Action(action), letter_id, message, said)


async def _repair_release(
    running: Running,
    key: str,
    by: str,
    why: str,
    dry_run: bool,
    expected: int | None,
    message_id: str | None,
    saga: str,
) -> Repaired:
    said = Said(by, why, dry_run, expected, message_id)
    return await running.repairs.release(saga, key, said)


async def _reindex(running: Running, key: str, saga: str) -> int:
    definition = running.repairs.definition(saga)
    return await reindex(running.services, running.supervisor, definition)


async def _pause(running: Running, key: str, queue: str, reason: str) -> None:
    await running.queues.ref(queue).pause(reason)


async def _resume(running: Running, key: str, queue: str) -> None:
    await running.queues.ref(queue).resume()


async def _cancel(running: Running, key: str, queue: str, job_id: str) -> None:
    await running.queues.ref(queue).cancel(job_id)


_MEASURES = {"set_deadline": set_deadline, "cancel_deadline": cancel_deadline}

_KNOWN: dict[str, Callable[..., Awaitable[Any]]] = {
    "release": _release,
    "redrive": _redrive,
    "discard": _discard,
    "repair": _repair,
    "repair letter": _repair_letter,
    "repair release": _repair_release,
    "reindex": _reindex,
    "pause queue": _pause,
    "resume queue": _resume,
    "cancel job": _cancel,
}
