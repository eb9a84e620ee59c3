"""What the command line prints: tables and sheets for people, JSON for programs.

    out = Output(as_json=False)
    out.rows([{"id": "o-1", "status": "stuck"}], {"id": "id", "status": "status"})

Results go to stdout; notes, questions, progress and errors to stderr. With ``--json`` stdout holds
JSON and nothing else: a line for each row of a listing, one document for everything else, all of
it in ASCII. For people every value passes ``safe.py``. Next to read: ``progress.py``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from perdure.errors import PerdureError
from perdure.ops.cli.safe import safe, safe_lines
from perdure.ops.control import Refused

__all__ = ["CELL_CHARS_MAX", "VALUE_CHARS_MAX", "Output", "as_text"]

CELL_CHARS_MAX = 120
VALUE_CHARS_MAX = 4_000
WIDTH = 4_000
"""Of what is no terminal: lines are not broken."""
GAP = 2
LAST_WIDTH_MIN = 30


class Output:
    """Prints for people or for programs. ``full``: nothing is cut."""

    def __init__(self, as_json: bool, *, full: bool = False) -> None:
        self.as_json = as_json
        self.full = full

    def rows(self, rows: Iterable[Mapping[str, Any]], columns: Mapping[str, str]) -> int:
        """A listing: of each row, the columns named (key: heading). How many rows it were."""
        listed = list(rows)
        if self.as_json:
            for row in listed:
                print(_json(row))
        elif listed:
            table = Table(box=None, pad_edge=False, header_style="bold")
            cells = [[Text(self._cell(row.get(key))) for key in columns] for row in listed]
            *fixed, last = columns.values()
            for heading in fixed:
                table.add_column(Text(heading), no_wrap=True)
            table.add_column(Text(last), overflow="fold")
            for row_of_cells in cells:
                table.add_row(*row_of_cells)
            self._print(table, _least_width(list(columns.values()), cells))
        return len(listed)

    def sheet(self, values: Mapping[str, Any], document: Any = None) -> None:
        """One thing: its values by name, below each other. As JSON: ``document``, or these."""
        if self.as_json:
            print(_json(values if document is None else document))
            return
        table = Table(box=None, pad_edge=False, show_header=False)
        table.add_column(style="bold", no_wrap=True)
        table.add_column(overflow="fold")
        for name, value in values.items():
            if value not in (None, "", [], {}):
                table.add_row(Text(safe(name)), Text(self._value(value)))
        self._print(table)

    def line(self, text: str, document: Any = None) -> None:
        """A line of result for people, a document for programs."""
        if self.as_json:
            if document is not None:
                print(_json(document))
        else:
            print(safe_lines(text))

    def note(self, text: str) -> None:
        """Something beside the result; on stderr."""
        print(safe_lines(text), file=sys.stderr)

    def error(self, error: BaseException) -> None:
        """Why it was not done; on stderr."""
        problem = str(error) or type(error).__name__
        if not self.as_json:
            print(f"error: {safe_lines(problem, VALUE_CHARS_MAX)}", file=sys.stderr)
            return
        told: dict[str, Any] = {"type": type(error).__name__, "problem": problem}
        if isinstance(error, PerdureError):
            kind = error.kind if isinstance(error, Refused) else type(error).__name__
            told = {"type": kind, "problem": error.problem, "remedy": error.remedy}
            told |= {"saga": error.saga, "id": error.correlation_id}
        print(_json({"error": told}), file=sys.stderr)

    def _cell(self, value: Any) -> str:
        return safe(as_text(value), None if self.full else CELL_CHARS_MAX)

    def _value(self, value: Any) -> str:
        return safe_lines(as_text(value, indent=2), None if self.full else VALUE_CHARS_MAX)

    def _print(self, table: Table, least_width: int = 0) -> None:
        if sys.stdout.isatty():
            console = Console(highlight=False)
            console.width = max(console.width, least_width)
            console.print(table)
            return
        console = Console(highlight=False, width=WIDTH, no_color=True)
        with console.capture() as capture:
            console.print(table)
        print("\n".join(line.rstrip() for line in capture.get().splitlines()))


def _least_width(headings: list[str], cells: list[list[Text]]) -> int:
    """Of a table whose last column alone is broken: a narrower terminal breaks its lines itself."""
    widths = [
        max(len(heading), *(row[number].cell_len for row in cells))
        for number, heading in enumerate(headings)
    ]
    return sum(widths[:-1]) + GAP * len(widths[:-1]) + min(widths[-1], LAST_WIDTH_MIN)


def as_text(value: Any, indent: int | None = None) -> str:
    """A plain value as people read it."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(sep=" ", timespec="seconds").replace("+00:00", "Z")
    if isinstance(value, bool):
        return "yes" if value else "no"
    return json.dumps(value, ensure_ascii=False, indent=indent, default=_default)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=True, default=_default)


def _default(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, (set, frozenset, tuple)):
        return list(value)
    return str(value)
