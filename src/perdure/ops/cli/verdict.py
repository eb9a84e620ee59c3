"""``perdure health``: the verdict of the runtime that holds the store, or of the store alone.

Next to read: ``ops/health.py``, how it is judged.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

import typer

from perdure.ops.cli.exits import Exit
from perdure.ops.cli.options import JsonOption, StoreOption, TimeoutOption
from perdure.ops.cli.output import Output
from perdure.ops.cli.targets import Target
from perdure.ops.control import Control, NoAnswer
from perdure.ops.health import Health, HealthStatus, Issue, IssueKind, health_of_store
from perdure.store.urls import store_to_look_at

__all__ = ["health"]

_EXITS = {"healthy": Exit.OK, "warning": Exit.WARNING, "critical": Exit.CRITICAL}


async def health(
    store_only: Annotated[
        bool, typer.Option("--store-only", help="Judge the store; a runtime need not run.")
    ] = False,
    within_s: TimeoutOption = 10.0,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> Exit:
    """Say whether it is well, and exit with 0 if so, 6 for a warning, 7 if it is critical.

    It is critical, too, that no runtime holds the file, unless only the store is asked about. In
    PostgreSQL it is a warning that shards have no live owner, critical if mail waits and none has.
    """
    target = await Target.of(store, None)
    if store_only:
        found = (await _of_store(target)).as_json()
    else:
        found = await _of_runtime(target, within_s)
    output = Output(as_json)
    if as_json:
        output.sheet(found)
    else:
        output.line(f"{found['status']}")
        columns = {"severity": "severity", "kind": "kind", "text": "what"}
        output.rows(found["issues"], columns)
    return _EXITS[found["status"]]


async def _of_runtime(target: Target, within_s: float) -> dict[str, Any]:
    problem = "No runtime holds the store"
    if target.is_server:
        return (await _of_store(target, shards=True)).as_json()
    try:
        control = await Control.over(target.path)
        if control is not None:
            async with control:
                answer: dict[str, Any] = await control.ask("health", within_s=within_s)
                return answer
    except NoAnswer as error:
        problem = str(error)
    found = await _of_store(target)
    issue = Issue(IssueKind.RUNTIME, HealthStatus.CRITICAL, problem)
    return replace(found, status=HealthStatus.CRITICAL, issues=(issue, *found.issues)).as_json()


async def _of_store(target: Target, *, shards: bool = False) -> Health:
    store = store_to_look_at(target.url)
    await store.open()
    try:
        return await health_of_store(store, shards=shards)
    finally:
        await store.close()
