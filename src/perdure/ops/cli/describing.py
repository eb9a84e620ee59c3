"""``perdure describe`` and ``perdure check``: what an application declares, and what is wrong.

Nothing is started, and no store is opened. Next to read: ``describing/__init__.py`` of the package.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any

import typer

from perdure.describing import Description, check, describe, diagram, markdown
from perdure.describing.sheets import (
    queue_sheet,
    queue_table,
    sheet_of,
    steps_of,
    table_of,
    title_of,
)
from perdure.errors import UnknownSaga
from perdure.ops.cli.documents import row_of
from perdure.ops.cli.exits import Exit
from perdure.ops.cli.options import JsonOption
from perdure.ops.cli.output import Output
from perdure.ops.wording import counted
from perdure.runtime.loading import load_runtime, url_named

__all__ = ["check_app", "describe_app"]

AppArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODULE:APP",
        envvar="PERDURE_APP",
        help="A Runtime, or a function that makes one. It is not started.",
    ),
]
SagaArgument = Annotated[
    str | None, typer.Argument(metavar="[SAGA]", help="One saga, by its name; else all.")
]
StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        "-s",
        envvar="PERDURE_STORE",
        help="Only for a function that takes one: a URL, or a file. It is not opened.",
    ),
]


async def describe_app(
    app: AppArgument,
    saga: SagaArgument = None,
    mermaid: Annotated[
        bool, typer.Option("--mermaid", help="Diagrams, to be pasted into Markdown.")
    ] = False,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what your sagas and work queues declare, in words or as diagrams."""
    found = _only(await _described(app, store), saga)
    output = Output(as_json, full=True)
    if mermaid:
        drawn = {one.name: diagram(one, found.queues) for one in found.sagas}
        output.line(markdown(found).rstrip("\n"), drawn)
        return
    if as_json:
        output.sheet(row_of(found))
        return
    for number, one in enumerate(found.sagas):
        output.line(f"{'' if number == 0 else chr(10)}{title_of(one)}")
        output.sheet(sheet_of(one))
        _table(output, table_of(one))
        _table(output, steps_of(one))
    if saga is not None:
        return
    for queue in found.queues:
        output.line(f"\n{queue.name}, a work queue")
        output.sheet(queue_sheet(queue))
        _table(output, queue_table(queue))


async def check_app(
    app: AppArgument,
    ignore: Annotated[
        list[str] | None,
        typer.Option(
            "--ignore", metavar="RULE[:SAGA]", help="A rule that is not to be applied; repeatable."
        ),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 for a warning.")] = False,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> Exit:
    """Warn of what is declared and almost always a mistake, as a process that no time ever ends."""
    found = await _described(app, store)
    warnings = check(found, ignore or ())
    output = Output(as_json, full=True)
    for one in warnings:
        output.line(str(one), row_of(one))
    members = f"{counted(len(found.sagas), 'saga')}, {counted(len(found.queues), 'work queue')}"
    output.note(f"{members}: {counted(len(warnings), 'warning')}")
    return Exit.FAILED if warnings and strict else Exit.OK


async def _described(app: str, store: str | None) -> Description:
    runtime = await load_runtime(app, None if store is None else url_named(store))
    return describe(runtime.members)


def _only(found: Description, saga: str | None) -> Description:
    """One of the sagas, beside all queues. Raises ``UnknownSaga``."""
    if saga is None:
        return found
    sagas = tuple(one for one in found.sagas if one.name == saga)
    if not sagas:
        known = ", ".join(sorted(one.name for one in found.sagas))
        raise UnknownSaga(f"there is no saga {saga!r}", remedy=f"the app has {known or 'none'}")
    return replace(found, sagas=sagas)


def _table(output: Output, rows: Sequence[Mapping[str, Any]]) -> None:
    """A table below a sheet, without the columns that have nothing in them."""
    if rows:
        output.line("")
        output.rows(rows, {name: name for name in _used(rows)})


def _used(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name, value in row.items() if value))
