"""Commands that send: messages to instances, events to whom they concern, commands to queues.

Next to read: ``runtime/runtime.py``; ``data.py``, how messages are given.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from perdure.errors import DefinitionError, PerdureError
from perdure.ops.cli.data import data_of, who
from perdure.ops.cli.exits import Exit
from perdure.ops.cli.options import (
    AppOption,
    ByOption,
    DryRunOption,
    InstanceArgument,
    JsonOption,
    StoreOption,
    TimeoutOption,
    instance_of,
)
from perdure.ops.cli.output import Output
from perdure.ops.cli.progress import progress
from perdure.ops.cli.targets import Ask, Target

__all__ = ["enqueue", "publish", "send"]

CONCURRENCY = 64
SHOWN = 3

TypeArgument = Annotated[str, typer.Argument(metavar="TYPE", help="The message's type name.")]
DataArgument = Annotated[
    str | None, typer.Argument(help="Its fields in JSON; @FILE, or - for stdin.")
]
MessageIdOption = Annotated[
    str | None, typer.Option(help="Repeated under the same id, it is applied once.")
]


async def send(
    instance: InstanceArgument,
    type: TypeArgument,
    data: DataArgument = None,
    message_id: MessageIdOption = None,
    why: Annotated[
        str | None, typer.Option("--why", help="Send it as a repair, before all that waits.")
    ] = None,
    by: ByOption = None,
    dry_run: DryRunOption = False,
    within_s: TimeoutOption = 60.0,
    store: StoreOption = None,
    app: AppOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send a message to one instance; it is acknowledged when this returns."""
    saga, correlation_id = instance_of(instance)
    message = {"type": type, "data": data_of(data), "message_id": message_id}
    if why is not None:
        message |= {"by": by or who(), "why": why, "dry_run": dry_run}
    elif dry_run:
        raise DefinitionError("--dry-run is for repairs", remedy="give --why, too")
    do = "send" if why is None else "repair.send"
    async with (await Target.of(store, app)).asking() as ask:
        found = await ask(do, within_s=within_s, saga=saga, id=correlation_id, **message)
    if why is not None:
        Output(as_json).line(f"{instance}: {found['text']}", found)
        return
    turn = "" if found["sequence_nr"] is None else f" in turn {found['sequence_nr']}"
    known = "; it was known by its id, and nothing was done now" if found["duplicate"] else ""
    Output(as_json).line(f"{instance}: {found['outcome']}{turn}{known}", found)


async def publish(
    type: Annotated[
        str | None, typer.Argument(metavar="TYPE", help="The event's type name.")
    ] = None,
    data: DataArgument = None,
    file: Annotated[
        str | None,
        typer.Option(help='Many: lines of {"type": …, "data": {…}, "id": …}; - for stdin.'),
    ] = None,
    message_id: MessageIdOption = None,
    within_s: TimeoutOption = 60.0,
    store: StoreOption = None,
    app: AppOption = None,
    as_json: JsonOption = False,
) -> Exit:
    """Publish events to every instance they are for, as the sagas correlate them."""
    if type is None and file is None:
        raise DefinitionError("there is nothing to publish", remedy="give TYPE and DATA, or --file")
    if type is not None and file is not None:
        raise DefinitionError(
            f"{type!r} and --file are given, one too many",
            remedy='leave TYPE away: a line of the file is {"type": …, "data": {…}}',
        )
    output = Output(as_json)
    events = list(_events(file)) if file else [(type, data_of(data), message_id)]
    async with (await Target.of(store, app)).asking() as ask:
        answers = await _publish_all(ask, events, within_s)
    failed = [one for one in answers if isinstance(one, PerdureError)]
    receipts = [one for one in answers if not isinstance(one, PerdureError)]
    if len(events) == 1 and failed:
        raise failed[0]
    if as_json:
        output.rows([one for listed in receipts for one in listed], {})
    for error in failed[:SHOWN]:
        output.error(error)
    if len(failed) > SHOWN:
        output.note(f"… and {len(failed) - SHOWN} more that failed")
    count = sum(map(len, receipts))
    said = f"{len(receipts)} of {len(events)} events published, to {count} instances"
    output.note("; ".join([said, *_unlike(receipts)]))
    return Exit.FAILED if failed else Exit.OK


def _unlike(receipts: list[Any]) -> list[str]:
    """How many had another outcome than to be applied now: a repetition, one that came too late."""
    outcomes = Counter(
        "duplicate" if one["duplicate"] else str(one["outcome"])
        for listed in receipts
        for one in listed
    )
    return [f"{count} {name}" for name, count in sorted(outcomes.items()) if name != "applied"]


async def _publish_all(ask: Ask, events: list[Any], within_s: float) -> list[Any]:
    room = asyncio.Semaphore(CONCURRENCY)
    with progress("publishing", len(events)) as advance:

        async def one(event: tuple[str, Any, str | None]) -> Any:
            kind, data, message_id = event
            async with room:
                try:
                    return await ask(
                        "publish", within_s=within_s, type=kind, data=data, message_id=message_id
                    )
                except PerdureError as error:
                    return error
                finally:
                    advance(1)

        return list(await asyncio.gather(*map(one, events)))


def _events(file: str) -> Iterator[tuple[str, Any, str | None]]:
    for number, line in enumerate(_lines(file), 1):
        if not line.strip():
            continue
        try:
            said = json.loads(line)
            yield said["type"], said.get("data", {}), said.get("id")
        except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
            raise DefinitionError(
                f"line {number} of {file!r} is no event: {error!r}",
                remedy='a line is {"type": "OrderPlaced", "data": {…}}; nothing was published',
            ) from None


def _lines(file: str) -> list[str]:
    try:
        if file == "-":
            return sys.stdin.readlines()
        with open(file, encoding="utf-8") as opened:
            return opened.readlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DefinitionError(f"cannot read {file!r}: {error}", remedy="give a text file") from None


async def enqueue(
    type: TypeArgument,
    data: DataArgument = None,
    queue: Annotated[str | None, typer.Option(help="The work queue, if several take it.")] = None,
    job_id: Annotated[str | None, typer.Option(help="Its idempotency key.")] = None,
    within_s: TimeoutOption = 60.0,
    store: StoreOption = None,
    app: AppOption = None,
    as_json: JsonOption = False,
) -> None:
    """Have a worker perform a command that no saga sent."""
    async with (await Target.of(store, app)).asking() as ask:
        found = await ask(
            "enqueue",
            within_s=within_s,
            type=type,
            data=data_of(data),
            queue=queue,
            message_id=job_id,
        )
    Output(as_json).line(f"job {found['job']} is queued", found)
