"""Nothing that comes from outside commands the terminal, turns it round, or hides on it."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.ops.cli.safe import cut, safe, safe_lines

HOSTILE = {
    "\x1b[2J\x1b[H": r"\x1b[2J\x1b[H",
    "\x1b]0;title\x07": r"\x1b]0;title\x07",
    "\x9b31m": r"\x9b31m",
    "a\rb\bc\x7f": r"a\rb\x08c\x7f",
    "\u202egpj.exe": r"\u202egpj.exe",
    "\u2066x\u2069": r"\u2066x\u2069",
    "o\u200b-1": r"o\u200b-1",
    "\ufeffx": r"\ufeffx",
    "a\u2028b": r"a\u2028b",
    "\ud800": r"\ud800",
    "\U000e0041": r"\U000e0041",
    "\ue000": r"\ue000",
    "line\nline": r"line\nline",
    "Bestellung 7/ä 注文 🙂": "Bestellung 7/ä 注文 🙂",
    "[red]no markup[/red]": "[red]no markup[/red]",
    "e" + "\u0301" * 6: "e" + "\u0301" * 4 + r"\u0301\u0301",
}


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_what_a_terminal_would_obey_is_shown_instead(text):
    assert safe(text) == HOSTILE[text]


@given(st.text(st.characters(codec=None)))
def test_only_what_is_seen_is_left(text):
    for shown, kept in [(safe(text), ""), (safe_lines(text), "\n")]:
        kinds = {unicodedata.category(one) for one in shown if one != kept}
        assert not kinds & {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
        shown.encode()


def test_several_lines_stay_lines():
    assert safe_lines("a\n\tb\x1b") == "a\n    b\\x1b"


def test_what_is_too_long_is_cut_and_says_so():
    assert safe("x" * 10_000_000, 10) == "xxxxxxxxxx… (10,000,000 characters in all)"
    assert safe_lines("x" * 11, 10) == "xxxxxxxxxx… (11 characters in all)"
    assert cut("x" * 10, 10) == ("x" * 10, "")
