"""What may be asked of a runtime: a name, checked arguments, and what is done.

A new request is a function and a line in the table. Results are plain data, fit for JSON. Knows no
sockets: the command line performs the same requests on a runtime in its own process.
Next to read: ``repairs.py``, those that repair.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from perdure.errors import SendTimeout
from perdure.ops.control.arguments import Arguments
from perdure.ops.control.lines import VERSION, BadRequest
from perdure.ops.control.repairs import REPAIRS
from perdure.ops.health import health
from perdure.ops.plain import to_plain
from perdure.runtime.delivery import Receipt
from perdure.runtime.runtime import Runtime

__all__ = ["REQUESTS", "no_end", "perform"]

Answering = Callable[[Runtime, Arguments], Awaitable[Any]]


async def perform(runtime: Runtime, do: str, arguments: Mapping[str, Any]) -> Any:
    """Do what is asked. Raises ``BadRequest``, and what the runtime raises."""
    answering = REQUESTS.get(do)
    if answering is None:
        raise BadRequest(f"{do[:40]!r} is not known; known are {', '.join(sorted(REQUESTS))}")
    return await answering(runtime, Arguments(do, arguments))


def no_end(do: str, limit_s: float) -> SendTimeout:
    """The error for what takes longer than whoever asks is willing to wait."""
    return SendTimeout(
        f"no end of {do!r} within {limit_s:g} s",
        remedy="it may still be done: look at the instance before you repeat it",
    )


async def _ping(runtime: Runtime, given: Arguments) -> Any:
    given.end()
    return {
        "pid": os.getpid(),
        "protocol": VERSION,
        "store": runtime.store.name,
        "residents": runtime.residents,
    }


async def _send(runtime: Runtime, given: Arguments) -> Any:
    ref = given.ref(runtime)
    message, options = given.message(), _options(given)
    return receipt_of(await runtime.send(ref, message, **options))


async def _publish(runtime: Runtime, given: Arguments) -> Any:
    message, options = given.message(), _options(given)
    return [receipt_of(one) for one in await runtime.publish(message, **options)]


async def _enqueue(runtime: Runtime, given: Arguments) -> Any:
    message, queue = given.message(), given.optional_text("queue")
    return {"job": await runtime.enqueue(message, queue=queue, **_options(given, "job_id"))}


def _options(given: Arguments, id_is: str = "message_id") -> dict[str, Any]:
    options = {
        id_is: given.optional_text("message_id"),
        "correlation_id": given.optional_text("correlation_id"),
        "headers": given.optional_texts("headers"),
    }
    given.end()
    return options


def receipt_of(receipt: Receipt) -> dict[str, Any]:
    """What became of a message, as plain data."""
    return {
        "saga": receipt.saga,
        "correlation_id": receipt.correlation_id,
        "message_id": receipt.message_id,
        "outcome": str(receipt.outcome),
        "sequence_nr": receipt.sequence_nr,
        "reply": to_plain(receipt.reply),
        "duplicate": receipt.duplicate,
    }


async def _pause(runtime: Runtime, given: Arguments) -> Any:
    queue, reason = runtime.queue(given.text("queue")), given.text("reason")
    given.end()
    await queue.pause(reason)
    return {"queue": queue.name, "paused": True}


async def _resume_queue(runtime: Runtime, given: Arguments) -> Any:
    queue = runtime.queue(given.text("queue"))
    given.end()
    await queue.resume()
    return {"queue": queue.name, "paused": False}


async def _cancel_job(runtime: Runtime, given: Arguments) -> Any:
    queue, job = runtime.queue(given.text("queue")), given.text("job")
    given.end()
    await queue.cancel(job)
    return {"queue": queue.name, "job": job, "cancelled": True}


async def _health(runtime: Runtime, given: Arguments) -> Any:
    given.end()
    return (await health(runtime)).as_json()


REQUESTS: dict[str, Answering] = {
    "ping": _ping,
    "send": _send,
    "publish": _publish,
    "enqueue": _enqueue,
    "queue.pause": _pause,
    "queue.resume": _resume_queue,
    "queue.cancel": _cancel_job,
    "health": _health,
    **REPAIRS,
}
