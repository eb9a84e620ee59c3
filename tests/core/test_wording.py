"""Moments, durations, names and errors, as they are said to people."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.core.wording import harmless, last_line, listed, named, plural, span, when

SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000


@pytest.mark.parametrize(
    ("duration_ms", "said"),
    [
        (0, "less than a second"),
        (999, "less than a second"),
        (SECOND, "1 s"),
        (61 * SECOND, "1 min 1 s"),
        (3 * HOUR + 12 * MINUTE + 30 * SECOND, "3 h 12 min"),
        (HOUR + 59 * SECOND, "1 h"),
        (2 * DAY + 4 * HOUR, "2 d 4 h"),
        (400 * DAY, "400 d"),
    ],
)
def test_a_duration_is_said_in_its_two_largest_units(duration_ms, said):
    assert span(duration_ms) == said


def test_a_moment_is_said_with_how_far_away_it_is():
    assert when(DAY, DAY - 61 * SECOND) == "1970-01-02 00:00:00 UTC (in 1 min 1 s)"
    assert when(DAY, DAY + 3 * HOUR) == "1970-01-02 00:00:00 UTC (3 h ago)"
    assert when(2**62, 0) == "a moment out of the calendar"


def test_what_a_terminal_would_act_on_is_escaped():
    assert harmless("red \x1b[31m") == "red \\x1b[31m"
    assert harmless("one\ntwo\r\t") == "one\\ntwo\\r\\t"
    assert harmless("o-1\u202e1-o") == "o-1\\u202e1-o"
    assert harmless("\ud800") == "\\ud800"
    assert harmless("Größe 東京 ✓") == "Größe 東京 ✓"
    assert harmless("x" * 1_000) == "x" * 300 + "…"
    assert named('a"b') == '"a"b"'


@given(st.text())
def test_whatever_it_is_it_is_one_printable_line(text):
    assert harmless(text).isprintable()
    assert last_line(text).isprintable()


def test_of_a_printed_error_the_last_line_is_said():
    printed = "Traceback:\n  File x\nValueError: no\n\n"
    assert last_line(printed) == "ValueError: no"
    assert last_line("") == ""


def test_numbers_and_lists_in_a_sentence():
    assert [plural(1, "message"), plural(0, "message"), plural(2, "reply")] == [
        "1 message",
        "0 messages",
        "2 replies",
    ]
    assert listed([]) == ""
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "c"], "or") == "a, b or c"
    assert listed([str(n) for n in range(12)]) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more"
