"""One repair, of one thing or of many: what would be done, a question, what was done.

Shown first is what a dry run gives, for each. Who cannot be asked has to say ``--yes``. One that
fails stops no other. Next to read: ``repairing.py``, the commands.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import typer

from perdure.errors import DefinitionError, PerdureError
from perdure.ops.cli.exits import Exit, exit_of
from perdure.ops.cli.output import Output
from perdure.ops.cli.progress import progress
from perdure.ops.cli.targets import Ask, Target

__all__ = ["Bulk", "Item", "carry_out"]

CONCURRENCY = 32
SHOWN = 20


class Declined(PerdureError):
    """Whoever was asked has said no."""


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that a request is about, and the request's arguments for it."""

    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Bulk:
    """A request to be made of each item. ``is_one``: a single thing, named by itself."""

    do: str
    items: Sequence[Item]
    common: Mapping[str, Any]
    is_one: bool
    dry_run: bool
    yes: bool
    within_s: float = 60.0


@dataclass(frozen=True, slots=True)
class _Done:
    item: Item
    result: Any = None
    error: PerdureError | None = None

    @property
    def row(self) -> dict[str, Any]:
        if self.error is not None:
            kind = getattr(self.error, "kind", type(self.error).__name__)
            text = f"{self.error.problem}; {self.error.remedy}" if self.error.remedy else ""
            told = text or self.error.problem
            return {"item": self.item.name, "ok": False, "error": kind, "text": told}
        return {"item": self.item.name, "ok": True, **self.result}


async def carry_out(target: Target, bulk: Bulk, output: Output) -> Exit:
    """Do it, or say what would be done. Raises what a single one raises."""
    async with target.asking() as ask:
        if bulk.is_one:
            (item,) = bulk.items
            found = await ask(
                bulk.do, within_s=bulk.within_s, **_arguments(bulk, item, bulk.dry_run)
            )
            would = "would be: " if bulk.dry_run else ""
            output.line(f"{item.name}: {would}{_text(found)}", found)
            return Exit.OK
        if bulk.dry_run:
            return _told(output, await _each(ask, bulk, dry_run=True), "can be done", "possible")
        if not bulk.yes:
            looked = await _each(ask, bulk, dry_run=True)
            if all(one.error is not None for one in looked):
                return _told(output, looked, "can be done", "possible")
            _confirm(looked, bulk, output)
        return _told(output, await _each(ask, bulk, dry_run=False), "done")


async def _each(ask: Ask, bulk: Bulk, *, dry_run: bool) -> list[_Done]:
    room = asyncio.Semaphore(CONCURRENCY)
    what = f"looking: {bulk.do}" if dry_run else bulk.do
    with progress(what, len(bulk.items)) as advance:

        async def one(item: Item) -> _Done:
            async with room:
                try:
                    arguments = _arguments(bulk, item, dry_run)
                    return _Done(item, await ask(bulk.do, within_s=bulk.within_s, **arguments))
                except PerdureError as error:
                    return _Done(item, error=error)
                finally:
                    advance(1)

        return list(await asyncio.gather(*map(one, bulk.items)))


def _arguments(bulk: Bulk, item: Item, dry_run: bool) -> dict[str, Any]:
    return {**bulk.common, **item.arguments, "dry_run": dry_run}


def _confirm(looked: list[_Done], bulk: Bulk, output: Output) -> None:
    possible = [one for one in looked if one.error is None]
    for one in looked[:SHOWN]:
        output.note(f"{one.item.name}: {one.error or 'would be: ' + _text(one.result)}")
    if len(looked) > SHOWN:
        output.note(f"… and {len(looked) - SHOWN} more")
    question = f"{bulk.do} {len(possible)} of {len(looked)}?"
    if not sys.stdin.isatty():
        raise DefinitionError(
            f"{question} Nobody can be asked here", remedy="add --yes, or --dry-run to look only"
        )
    if not _says_yes(question):
        raise Declined("you said no: nothing was done")


def _says_yes(question: str) -> bool:
    """Asks, on the terminal. Ctrl-C ends it at once: asyncio would only cancel what waits here."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return typer.confirm(question, err=True)
    except typer.Abort as abort:
        if isinstance(abort.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        return False
    finally:
        signal.signal(signal.SIGINT, before)


def _told(output: Output, done: list[_Done], what: str, heading: str = "done") -> Exit:
    failed = [one for one in done if one.error is not None]
    if output.as_json:
        output.rows([one.row for one in done], {})
    else:
        rows = [one.row for one in done]
        if not output.full and len(rows) > SHOWN:
            rows = [one.row for one in failed[:SHOWN]]
        output.rows(rows, {"item": "item", "ok": heading, "text": "what"})
    summary = f"{len(done) - len(failed)} of {len(done)} {what}"
    if output.as_json:
        output.note(summary)
    else:
        output.line(summary)
    if not failed:
        return Exit.OK
    return Exit.FAILED if len(failed) < len(done) else exit_of(failed[0].error or PerdureError(""))


def _text(found: Any) -> str:
    text = str(found.get("text", "")) if isinstance(found, Mapping) else str(found)
    before, after = found.get("status_before"), found.get("status_after")
    return f"{text} ({before} -> {after})" if before != after else text
