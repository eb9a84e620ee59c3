"""Commands for work queues and dead letters that change them. Next to read: ``bulk.py``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from perdure.errors import DefinitionError
from perdure.ops.cli.bulk import Bulk, Item, carry_out
from perdure.ops.cli.data import data_of, who
from perdure.ops.cli.exits import Exit
from perdure.ops.cli.looking import looking
from perdure.ops.cli.options import (
    AppOption,
    ByOption,
    DryRunOption,
    JsonOption,
    StoreOption,
    TimeoutOption,
    WhyOption,
    YesOption,
)
from perdure.ops.cli.output import Output
from perdure.ops.cli.targets import Target

__all__ = ["dead_discard", "dead_redrive", "job_cancel", "queue_pause", "queue_resume"]

QueueArgument = Annotated[str, typer.Argument(metavar="QUEUE", help="The work queue.")]
LettersArgument = Annotated[
    list[int] | None, typer.Argument(metavar="[LETTER]...", help="By number, as dead list shows.")
]
SagaOption = Annotated[str | None, typer.Option("--saga", help="All of this saga.")]
QueueOption = Annotated[str | None, typer.Option("--queue", help="All of this work queue.")]
ReasonOption = Annotated[str | None, typer.Option("--reason", help="All of this reason.")]
TypeOption = Annotated[str | None, typer.Option("--type", help="All of this message type.")]
AllOption = Annotated[bool, typer.Option("--all", help="All that there are.")]


async def queue_pause(
    queue: QueueArgument,
    why: WhyOption,
    store: StoreOption = None,
    app: AppOption = None,
    as_json: JsonOption = False,
) -> None:
    """Start no more jobs of a queue, also after a restart, until it is resumed."""
    async with (await Target.of(store, app)).asking() as ask:
        found = await ask("queue.pause", queue=queue, reason=why)
    Output(as_json).line(f"{queue} is paused", found)


async def queue_resume(
    queue: QueueArgument,
    store: StoreOption = None,
    app: AppOption = None,
    as_json: JsonOption = False,
) -> None:
    """Start jobs of a queue again."""
    async with (await Target.of(store, app)).asking() as ask:
        found = await ask("queue.resume", queue=queue)
    Output(as_json).line(f"{queue} is resumed", found)


async def job_cancel(
    queue: QueueArgument,
    job: Annotated[str, typer.Argument(metavar="JOB", help="Its id, as jobs shows it.")],
    store: StoreOption = None,
    app: AppOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give up a job: it becomes a dead letter, and its instance is told that it failed."""
    async with (await Target.of(store, app)).asking() as ask:
        found = await ask("queue.cancel", queue=queue, job=job)
    Output(as_json).line(f"{job} is cancelled", found)


async def dead_redrive(
    why: WhyOption,
    letters: LettersArgument = None,
    saga: SagaOption = None,
    queue: QueueOption = None,
    reason: ReasonOption = None,
    type: TypeOption = None,
    all_of_them: AllOption = False,
    data: Annotated[
        str | None,
        typer.Option(help="Of one letter: with these fields instead, in JSON; @FILE, - for stdin."),
    ] = None,
    by: ByOption = None,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    within_s: TimeoutOption = 60.0,
    store: StoreOption = None,
    app: AppOption = None,
    as_json: JsonOption = False,
) -> Exit:
    """Send dead letters on their way again, as they are, or one of them edited."""
    edited: dict[str, Any] = {}
    if data is not None:
        if len(letters or []) != 1:
            raise DefinitionError("--data is for one letter", remedy="name it by its number")
        edited = {"type": type or await _type_of((letters or [0])[0], store, app)}
        edited["data"], type = data_of(data), None
    filters = {"saga": saga, "queue": queue, "reason": reason, "type": type}
    numbers = await _letters(letters, filters, all_of_them, store, app)
    common = {"by": by or who(), "why": why, **edited}
    is_one = len(letters or []) == 1
    return await _carry_out("redrive", numbers, common, is_one, dry_run, yes, within_s, store, app,
                            as_json)  # fmt: skip


async def dead_discard(
    why: WhyOption,
    letters: LettersArgument = None,
    saga: SagaOption = None,
    queue: QueueOption = None,
    reason: ReasonOption = None,
    type: TypeOption = None,
    all_of_them: AllOption = False,
    by: ByOption = None,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    within_s: TimeoutOption = 60.0,
    store: StoreOption = None,
    app: AppOption = None,
    as_json: JsonOption = False,
) -> Exit:
    """Throw dead letters away."""
    filters = {"saga": saga, "queue": queue, "reason": reason, "type": type}
    numbers = await _letters(letters, filters, all_of_them, store, app)
    common = {"by": by or who(), "why": why}
    is_one = len(letters or []) == 1
    return await _carry_out("discard", numbers, common, is_one, dry_run, yes, within_s, store, app,
                            as_json)  # fmt: skip


async def _carry_out(
    do: str,
    numbers: list[int],
    common: dict[str, Any],
    is_one: bool,
    dry_run: bool,
    yes: bool,
    within_s: float,
    store: str | None,
    app: str | None,
    as_json: bool,
) -> Exit:
    output = Output(as_json)
    if not numbers:
        output.note("no such dead letters")
        return Exit.OK
    items = [Item(f"letter {number}", {"letter": number}) for number in numbers]
    bulk = Bulk(do, items, common, is_one, dry_run, yes, within_s)
    return await carry_out(await Target.of(store, app), bulk, output)


async def _letters(
    named: list[int] | None,
    filters: dict[str, str | None],
    all_of_them: bool,
    store: str | None,
    app: str | None,
) -> list[int]:
    """Those named, or all that the filters admit, as they are now."""
    is_filtered = all_of_them or any(one is not None for one in filters.values())
    if bool(named) == is_filtered:
        raise DefinitionError(
            "name dead letters, or say what they have in common",
            remedy="give numbers, or --saga, --queue, --reason, --type, or --all",
        )
    if named:
        return named
    async with looking(store, app) as look:
        letters = look.dead_letters(
            saga=filters["saga"],
            queue=filters["queue"],
            reason=filters["reason"],
            type=filters["type"],
        )
        return [one.id async for one in letters]


async def _type_of(letter: int, store: str | None, app: str | None) -> str:
    async with looking(store, app) as look:
        async for one in look.dead_letters(after=letter - 1):
            if one.id == letter:
                return one.type
            break
    raise DefinitionError(f"there is no dead letter {letter}", remedy="see dead list")
