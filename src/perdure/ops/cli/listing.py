"""Commands that list what is in a store beside instances: queues, dead letters, what is to come.

Read-only, as those in ``looking.py``, which is next to read.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, TypeVar

import typer

from perdure.errors import Gone
from perdure.ops.cli.documents import letter_row, letter_sheet, row_of, waiting_row
from perdure.ops.cli.looking import end, looking
from perdure.ops.cli.options import (
    NUMBER_MAX,
    AppOption,
    FullOption,
    JsonOption,
    LimitOption,
    StoreOption,
)
from perdure.ops.cli.output import Output
from perdure.ops.cli.select import moment_of

__all__ = ["dead_list", "dead_show", "deadlines", "inbox", "jobs", "queues", "schedules"]

Row = TypeVar("Row")

SagaOption = Annotated[str | None, typer.Option("--saga", help="Of this saga only.")]
QueueOption = Annotated[str | None, typer.Option("--queue", help="Of this work queue only.")]


async def queues(
    store: StoreOption = None, app: AppOption = None, as_json: JsonOption = False
) -> None:
    """List the work queues that hold jobs or are paused."""
    output = Output(as_json)
    async with looking(store, app) as look:
        found = await look.queues()
    columns = {
        "name": "queue",
        "depth": "jobs",
        "retrying": "failed before",
        "oldest_at": "oldest",
        "is_paused": "paused",
        "pause_reason": "why",
    }
    if not output.rows(map(row_of, found), columns):
        output.note("no queue holds jobs or is paused")


async def jobs(
    queue: Annotated[str, typer.Argument(help="The work queue.")],
    after: Annotated[int, typer.Option(min=0, max=NUMBER_MAX, help="Behind this position.")] = 0,
    limit: LimitOption = 100,
    store: StoreOption = None,
    app: AppOption = None,
    as_json: JsonOption = False,
    full: FullOption = False,
) -> None:
    """List the jobs of a work queue, oldest first."""
    output = Output(as_json, full=full)
    async with looking(store, app) as look:
        found = await _first(look.jobs(queue, after=after), limit)
    columns = {
        "position": "position",
        "id": "job",
        "type": "type",
        "attempts": "attempts",
        "due_at": "next at",
        "error": "error",
    }
    count = output.rows(map(row_of, found), columns)
    end(output, count, limit, "jobs", f"--after {found[-1].position}" if found else "")


async def dead_list(
    saga: SagaOption = None,
    queue: QueueOption = None,
    reason: Annotated[str | None, typer.Option(help="Of this reason only.")] = None,
    type: Annotated[str | None, typer.Option("--type", help="Of this message type only.")] = None,
    after: Annotated[int, typer.Option(min=0, max=NUMBER_MAX, help="Behind this number.")] = 0,
    limit: LimitOption = 100,
    store: StoreOption = None,
    app: AppOption = None,
    as_json: JsonOption = False,
    full: FullOption = False,
) -> None:
    """List dead letters, oldest first: messages and commands that could not be processed."""
    output = Output(as_json, full=full)
    async with looking(store, app) as look:
        letters = look.dead_letters(saga=saga, queue=queue, reason=reason, type=type, after=after)
        found = await _first(letters, limit)
    columns = {
        "id": "letter",
        "instance": "instance",
        "type": "type",
        "queue": "queue",
        "reason": "reason",
        "attempts": "attempts",
        "at": "at",
        "last_line": "error",
    }
    count = output.rows([row_of(one) if as_json else letter_row(one) for one in found], columns)
    end(output, count, limit, "dead letters", f"--after {found[-1].id}" if found else "")


async def dead_show(
    letter: Annotated[
        int, typer.Argument(min=1, max=NUMBER_MAX, help="Its number, as dead list shows it.")
    ],
    store: StoreOption = None,
    app: AppOption = None,
    as_json: JsonOption = False,
    full: FullOption = False,
) -> None:
    """Show one dead letter: its content, and the error with its chain."""
    async with looking(store, app) as look:
        found = await _first(look.dead_letters(after=letter - 1), 1)
    if not found or found[0].id != letter:
        raise Gone(f"there is no dead letter {letter}", remedy="it was redriven or discarded")
    Output(as_json, full=full).sheet(letter_sheet(found[0]), row_of(found[0]))


async def deadlines(
    saga: SagaOption = None,
    before: Annotated[str | None, typer.Option(help="Due before this moment (ISO 8601).")] = None,
    limit: LimitOption = 100,
    store: StoreOption = None,
    app: AppOption = None,
    as_json: JsonOption = False,
    full: FullOption = False,
) -> None:
    """List armed deadlines, the next one first."""
    output = Output(as_json, full=full)
    moment = None if before is None else moment_of(before)
    async with looking(store, app) as look:
        found = await _first(look.deadlines(saga, before=moment), limit)
    columns = {"due_at": "due", "instance": "instance", "name": "deadline"}
    count = output.rows(map(row_of, found), columns)
    end(output, count, limit, "deadlines", "a higher --limit")


async def schedules(
    store: StoreOption = None, app: AppOption = None, as_json: JsonOption = False
) -> None:
    """List schedules: the run to come, the latest, and those that were missed."""
    output = Output(as_json)
    async with looking(store, app) as look:
        found = await look.schedules()
    columns = {
        "name": "schedule",
        "timing": "timing",
        "next_at": "next",
        "previous_at": "latest",
        "made": "made",
        "missed": "missed",
        "is_paused": "paused",
    }
    if not output.rows(map(row_of, found), columns):
        output.note("no schedules")


async def inbox(
    limit: LimitOption = 100,
    after: Annotated[int, typer.Option(min=0, help="Skip so many.")] = 0,
    store: StoreOption = None,
    app: AppOption = None,
    as_json: JsonOption = False,
    full: FullOption = False,
) -> None:
    """List messages that wait: for an instance, for a retry, behind another one, held, in mail."""
    output = Output(as_json, full=full)
    async with looking(store, app) as look:
        found = await _first(look.inbox(after=after), limit)
        if len(found) < limit:
            found += await _first(look.mail(), limit - len(found))
    columns = {
        "instance": "instance",
        "type": "type",
        "reason": "reason",
        "since": "since",
        "attempts": "attempts",
        "due_at": "next at",
        "error": "error",
    }
    count = output.rows([row_of(one) if as_json else waiting_row(one) for one in found], columns)
    end(output, count, limit, "messages that wait", "a higher --limit")


async def _first(found: AsyncIterator[Row], limit: int) -> list[Row]:
    listed: list[Row] = []
    async for one in found:
        listed.append(one)
        if len(listed) >= limit:
            break
    return listed
