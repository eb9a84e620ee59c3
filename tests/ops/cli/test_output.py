"""What is printed to a terminal that is too narrow for it."""

from __future__ import annotations

import io

import pytest

from perdure.ops.cli.output import Output

COLUMNS = {"instance": "instance", "queue": "queue", "error": "error"}
ROW = {"instance": "Order/o-1", "queue": "trip.book_hotel.undo", "error": "no seat " * 9}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("width", ["10", "40", "80", "300"])
def test_a_narrow_terminal_breaks_no_column_but_the_last(monkeypatch, width):
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setenv("COLUMNS", width)
    assert Output(as_json=False).rows([ROW], COLUMNS) == 1
    first, *rest = terminal.getvalue().splitlines()[1:]
    assert first.startswith("Order/o-1  trip.book_hotel.undo  no seat no seat")
    assert len(rest) <= 2
    assert all(line.startswith(" " * 33) for line in rest)
