"""Commands that change what a runtime holds: repairs with who and why, messages, queues.

Each goes through the runtime that holds the store, or through one that ``--app`` starts here.
Next to read: ``bulk.py``, one or many; ``runtime/repair/repair.py``, what the repairs do.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from perdure.errors import DefinitionError, UnknownSaga
from perdure.ops.cli.bulk import Bulk, Item, carry_out
from perdure.ops.cli.data import data_of, who
from perdure.ops.cli.exits import Exit
from perdure.ops.cli.looking import looking, unknown_saga
from perdure.ops.cli.options import (
    AppOption,
    ByOption,
    DryRunOption,
    InstanceArgument,
    JsonOption,
    StoreOption,
    TimeoutOption,
    WhyOption,
    YesOption,
    instance_of,
)
from perdure.ops.cli.output import Output
from perdure.ops.cli.select import (
    IdleOption,
    OlderOption,
    Selection,
    StatusOption,
    WhereOption,
)
from perdure.ops.cli.targets import Target

__all__ = ["MANY", "deadline_cancel", "deadline_set", "mark_done", "of_many", "restart", "skip"]

ExpectedOption = Annotated[
    int | None,
    typer.Option(
        "--expected", min=1, help="Only if the instance still stands at this turn, as shown."
    ),
]
StepArgument = Annotated[str, typer.Argument(help="The step, by its name.")]

MANY = {
    "retry": "Try again now what waits for its next attempt, or is stuck.",
    "cancel": "Tell instances that they shall not go on; what they make of that they say.",
    "compensate": "Turn back: undo what is done, latest first, and fail.",
    "release": "Let instances live again that are quarantined.",
}


def of_many(do: str, help_text: str) -> Any:
    """The command that does this to instances, by name or by what they have in common."""

    async def command(
        instances: Annotated[
            list[str] | None, typer.Argument(metavar="[SAGA/ID]...", help="The instances.")
        ] = None,
        why: WhyOption = ...,  # type: ignore[assignment]
        saga: Annotated[str | None, typer.Option("--saga", help="All of this saga.")] = None,
        status: StatusOption = None,
        quarantined: Annotated[
            bool, typer.Option("--quarantined", help="All that are set aside.")
        ] = False,
        where: WhereOption = None,
        idle_for: IdleOption = None,
        older_than: OlderOption = None,
        by: ByOption = None,
        dry_run: DryRunOption = False,
        yes: YesOption = False,
        within_s: TimeoutOption = 60.0,
        store: StoreOption = None,
        app: AppOption = None,
        as_json: JsonOption = False,
    ) -> Exit:
        selection = Selection(saga, status, quarantined, where or [], idle_for, older_than)
        names = list(instances or [])
        is_one = len(names) == 1 and selection.is_everything
        if bool(names) != selection.is_everything:
            raise DefinitionError(
                "name instances, or say what they have in common",
                remedy="give SAGA/ID, or --saga, --status, --quarantined, --where",
            )
        output = Output(as_json)
        names = names or await _selected(selection, store, app, output)
        if not names:
            return Exit.OK
        items = [Item(name, _named(name)) for name in names]
        common = {"by": by or who(), "why": why}
        bulk = Bulk(do, items, common, is_one, dry_run, yes, within_s)
        return await carry_out(await Target.of(store, app), bulk, output)

    command.__doc__ = help_text
    return command


async def _selected(
    selection: Selection, store: str | None, app: str | None, output: Output
) -> list[str]:
    async with looking(store, app) as look:
        names = [f"{one.saga}/{one.correlation_id}" async for one in selection.of(look)]
        if not names and (unknown := await unknown_saga(look, selection.saga)):
            raise UnknownSaga(f"no such instances{unknown}", remedy="give the name of one of those")
        if not names:
            output.note("no such instances")
    return names


def _named(instance: str) -> dict[str, str]:
    saga, correlation_id = instance_of(instance)
    return {"saga": saga, "id": correlation_id}


async def skip(
    instance: InstanceArgument,
    step: StepArgument,
    why: WhyOption,
    expected: ExpectedOption = None,
    by: ByOption = None,
    dry_run: DryRunOption = False,
    store: StoreOption = None,
    app: AppOption = None,
    as_json: JsonOption = False,
) -> Exit:
    """Go on without a step that is not done."""
    own = {"step": step, "expected": expected, "by": by or who(), "why": why}
    return await _one("skip", instance, own, dry_run, store, app, as_json)


async def restart(
    instance: InstanceArgument,
    step: StepArgument,
    why: WhyOption,
    expected: ExpectedOption = None,
    by: ByOption = None,
    dry_run: DryRunOption = False,
    store: StoreOption = None,
    app: AppOption = None,
    as_json: JsonOption = False,
) -> Exit:
    """Forget what a step and those behind it have done, and go on there."""
    own = {"step": step, "expected": expected, "by": by or who(), "why": why}
    return await _one("restart_from", instance, own, dry_run, store, app, as_json)


async def mark_done(
    instance: InstanceArgument,
    about: Annotated[str, typer.Argument(metavar="STEP", help="The step, or a command's id.")],
    why: WhyOption,
    result: Annotated[
        str | None, typer.Option(help="What it has returned, in JSON; @FILE, or - for stdin.")
    ] = None,
    type: Annotated[
        str | None, typer.Option("--type", help="The type name of that, if it is a message.")
    ] = None,
    expected: ExpectedOption = None,
    by: ByOption = None,
    dry_run: DryRunOption = False,
    store: StoreOption = None,
    app: AppOption = None,
    as_json: JsonOption = False,
) -> Exit:
    """Go on as if a worker had done it: somebody has done it by hand."""
    value = data_of(result)
    given = {"result": value} if type is None else {"type": type, "data": value}
    own = {"about": about, **given, "expected": expected, "by": by or who(), "why": why}
    return await _one("mark_done", instance, own, dry_run, store, app, as_json)


async def deadline_set(
    instance: InstanceArgument,
    name: Annotated[str, typer.Argument(help="The deadline; timeout is the whole process's.")],
    at: Annotated[str, typer.Argument(help="The moment, as 2026-11-20T03:00:00Z.")],
    why: WhyOption,
    by: ByOption = None,
    dry_run: DryRunOption = False,
    store: StoreOption = None,
    app: AppOption = None,
    as_json: JsonOption = False,
) -> Exit:
    """Let a deadline be reached at another moment."""
    own = {"name": name, "at": at, "by": by or who(), "why": why}
    return await _one("set_deadline", instance, own, dry_run, store, app, as_json)


async def deadline_cancel(
    instance: InstanceArgument,
    name: Annotated[str, typer.Argument(help="The deadline.")],
    why: WhyOption,
    by: ByOption = None,
    dry_run: DryRunOption = False,
    store: StoreOption = None,
    app: AppOption = None,
    as_json: JsonOption = False,
) -> Exit:
    """Let a deadline not be reached at all."""
    own = {"name": name, "by": by or who(), "why": why}
    return await _one("cancel_deadline", instance, own, dry_run, store, app, as_json)


async def _one(
    do: str,
    instance: str,
    own: dict[str, Any],
    dry_run: bool,
    store: str | None,
    app: str | None,
    as_json: bool,
) -> Exit:
    items = [Item(instance, _named(instance))]
    bulk = Bulk(do, items, own, is_one=True, dry_run=dry_run, yes=True)
    return await carry_out(await Target.of(store, app), bulk, Output(as_json))
