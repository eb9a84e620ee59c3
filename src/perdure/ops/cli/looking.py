"""Commands that only look at instances.

They open the store read-only, live or not, and need none of the user's code; given ``--app``, they
fold states of process managers, too. Next to read: ``ops/inspection.py``, what they ask;
``documents.py``, how it is shown; ``listing.py``, what else is looked at.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated, Any

import typer

from perdure.errors import DefinitionError, InstanceNotFound
from perdure.ops.cli.documents import (
    entry_row,
    entry_sheet,
    row_of,
    shown_document,
    shown_sheet,
    view_sheet,
)
from perdure.ops.cli.options import (
    NUMBER_MAX,
    AppOption,
    FullOption,
    InstanceArgument,
    JsonOption,
    LimitOption,
    StoreOption,
    instance_of,
)
from perdure.ops.cli.output import Output
from perdure.ops.cli.safe import safe_lines
from perdure.ops.cli.select import (
    IdleOption,
    OlderOption,
    Selection,
    StatusOption,
    WhereOption,
    moment_of,
)
from perdure.ops.cli.targets import Target
from perdure.ops.inspection import Inspection
from perdure.queue import WorkQueue
from perdure.runtime.definitions import Saga

__all__ = ["counts", "end", "history", "instances", "looking", "show", "unknown_saga", "why"]


COLUMNS = {
    "instance": "instance",
    "status": "status",
    "quarantined": "quarantined",
    "started_at": "started",
    "updated_at": "updated",
}
ASIDE = {
    "instance": "instance",
    "reason": "quarantined",
    "since": "since",
    "held": "held",
    "error": "error",
}


@asynccontextmanager
async def looking(store: str | None, app: str | None) -> AsyncIterator[Inspection]:
    """The store that the options name, open for reading."""
    target = await Target.of(store, app)
    members: Sequence[Saga | WorkQueue] = ()
    try:
        members = await target.members()
    except DefinitionError as error:
        if app != os.environ.get("PERDURE_APP"):
            raise
        # It is set for other commands: a look can do without.
        print(safe_lines(f"shown without your code: {error.problem}"), file=sys.stderr)
    async with Inspection(target.url, members=members) as look:
        yield look


async def unknown_saga(look: Inspection, saga: str | None) -> str:
    """A note that none of its instances is known here, and whose are; empty if some are."""
    known = await look.counts()
    if saga is None or saga in known:
        return ""
    return f"; nothing here is of {saga!r}, only of {', '.join(sorted(known)) or 'nothing'}"


def end(output: Output, count: int, limit: int, what: str, more: str, why: str = "") -> None:
    """Say on stderr what a listing does not show."""
    if not count:
        output.note(f"no {what}{why}")
    elif count >= limit:
        output.note(f"{count} shown; more: {more}")


async def instances(
    saga: Annotated[str | None, typer.Argument(help="Of this saga; else of all.")] = None,
    status: StatusOption = None,
    quarantined: Annotated[bool, typer.Option("--quarantined", help="Set aside.")] = False,
    where: WhereOption = None,
    idle_for: IdleOption = None,
    older_than: OlderOption = None,
    after: Annotated[str, typer.Option(help="Behind this SAGA/ID, the last one shown.")] = "",
    limit: LimitOption = 100,
    store: StoreOption = None,
    app: AppOption = None,
    as_json: JsonOption = False,
    full: FullOption = False,
) -> None:
    """List instances, by saga and id."""
    output = Output(as_json, full=full)
    selection = Selection(saga, status, quarantined, where or [], idle_for, older_than)
    async with looking(store, app) as look:
        found = [row_of(one) async for one in selection.of(look, after, limit)]
        unknown = "" if found else await unknown_saga(look, saga)
    columns = ASIDE if quarantined else COLUMNS
    count = output.rows(found, columns)
    end(output, count, limit, "instances", f"--after {_word(found)}" if found else "", unknown)


async def show(
    instance: InstanceArgument,
    at: Annotated[
        str | None,
        typer.Option(help="As it was after this turn (a number), or at this moment (ISO 8601)."),
    ] = None,
    store: StoreOption = None,
    app: AppOption = None,
    as_json: JsonOption = False,
    full: FullOption = False,
) -> None:
    """Show everything about one instance: state, deadlines, jobs, dead letters, what waits."""
    saga, correlation_id = instance_of(instance)
    output = Output(as_json, full=full)
    async with looking(store, app) as look:
        if at is not None:
            view = await look.state(saga, correlation_id, at=_moment(at))
            if view is None:
                raise _missing(saga, correlation_id, "did not exist then")
            output.sheet(view_sheet(view), row_of(view))
            return
        shown = await look.show(saga, correlation_id)
    if shown.status is None and not shown.waiting and not shown.dead_letters:
        raise _missing(saga, correlation_id, "does not exist")
    output.sheet(shown_sheet(shown), shown_document(shown))


async def history(
    instance: InstanceArgument,
    after: Annotated[
        int, typer.Option(min=0, max=NUMBER_MAX, help="Turns behind this number.")
    ] = 0,
    limit: LimitOption = 1_000,
    turn: Annotated[
        int | None, typer.Option(min=1, max=NUMBER_MAX, help="All of this one turn.")
    ] = None,
    store: StoreOption = None,
    app: AppOption = None,
    as_json: JsonOption = False,
    full: FullOption = False,
) -> None:
    """List the turns of an instance, oldest first, with who has stepped in and why."""
    saga, correlation_id = instance_of(instance)
    output = Output(as_json, full=full)
    found = []
    async with looking(store, app) as look:
        start, most = (after, limit) if turn is None else (turn - 1, 1)
        async for entry in look.history(saga, correlation_id, after=start):
            found.append(entry)
            if len(found) >= most:
                break
    if turn is not None and found:
        output.sheet(entry_sheet(found[0]), row_of(found[0]))
        return
    if not found and not after:
        if turn is None:
            raise _missing(saga, correlation_id, "does not exist")
        raise InstanceNotFound(
            "there is no such turn, or no such instance",
            saga=saga,
            correlation_id=correlation_id,
            remedy="history without --turn lists the turns",
        )
    columns = {"sequence_nr": "turn", "at": "at", "type": "message", "outcome": "outcome"}
    rows = [row_of(one) if as_json else entry_row(one) for one in found]
    count = output.rows(rows, {**columns, "what": "what came of it"})
    end(output, count, limit, "turns", f"--after {found[-1].sequence_nr}" if found else "")


async def why(
    instance: InstanceArgument,
    store: StoreOption = None,
    app: AppOption = None,
    as_json: JsonOption = False,
    full: FullOption = False,
) -> None:
    """Say in plain words why an instance waits, and what can be done."""
    saga, correlation_id = instance_of(instance)
    output = Output(as_json, full=full)
    async with looking(store, app) as look:
        found = await look.why(saga, correlation_id)
    if [reason.kind for reason in found] == ["absent"]:
        raise _missing(saga, correlation_id, "does not exist, and no message waits for it")
    for reason in found:
        output.line(f"{instance}: {reason.text}", row_of(reason))
        if reason.remedy:
            output.line(f"    {reason.remedy}")


async def counts(
    store: StoreOption = None, app: AppOption = None, as_json: JsonOption = False
) -> None:
    """Count instances by saga and status."""
    async with looking(store, app) as look:
        found = await look.counts()
    output = Output(as_json)
    rows = [{"saga": saga, **by_status} for saga, by_status in sorted(found.items())]
    columns = {"saga": "saga"} | {
        status: status for status in ("running", "completed", "failed", "stuck")
    }
    if not output.rows(rows, columns):
        output.note("no instances")


def _missing(saga: str, correlation_id: str, problem: str) -> InstanceNotFound:
    return InstanceNotFound(
        f"the instance {problem}",
        saga=saga,
        correlation_id=correlation_id,
        remedy="see instances list for its name; if that has escapes, instances list --json",
    )


def _word(found: list[dict[str, Any]]) -> str:
    """The last instance of a listing, as a shell takes it."""
    return shlex.quote(found[-1]["instance"])


def _moment(at: str) -> int | datetime:
    return int(at) if at.isascii() and at.isdigit() else moment_of(at)
