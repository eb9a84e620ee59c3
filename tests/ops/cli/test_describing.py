"""``describe`` and ``check``: an application's declarations in a shell."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from perdure.ops.cli import main
from tests.ops.cli.support import Command

APP = "tests.ops.cli.apps:described"
WELL = "tests.ops.cli.apps:ledgers"


def printed(capsys, *words, exits=0):
    capsys.readouterr()
    assert main(list(words)) == exits
    return capsys.readouterr()


def test_what_is_declared_is_told_saga_by_saga_then_queue_by_queue(capsys):
    out = printed(capsys, "describe", APP).out
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert lines[0] == "described-order, a process manager"
    assert lines[1] == "about An order, from the first to the last."
    assert "timeout 1 h 30 min, reached again: 3 attempts, 1 min apart, handled" in lines
    assert "message does by when" in lines
    assert "described.placed starts, strictly order_id in new" in lines
    assert "described-trip, an ordered saga" in lines
    assert out.index("described-trip, ") < out.index("payments, a work queue")
    assert "rate 100 in 1 s" in lines


def test_one_saga_is_told_by_its_name(capsys):
    out = printed(capsys, "describe", APP, "described-stay").out
    assert out.startswith("described-stay, a coroutine workflow\n")
    assert "only its code says" in out
    assert "payments" not in out
    assert printed(capsys, "describe", APP, "described", exits=3).err == (
        "error: there is no saga 'described'; the app has described-by-hand, described-hourly, "
        "described-letters, described-nightly, described-order, described-stay, described-trip\n"
    )


def test_the_name_of_a_saga_that_is_not_there_is_shown_harmlessly(capsys):
    assert "\x1b" not in printed(capsys, "describe", APP, "\x1b[2J", exits=3).err


def test_the_diagrams_are_markdown_and_nothing_else(capsys):
    out = printed(capsys, "describe", APP, "described-letters", "--mermaid").out
    assert out.startswith("### described-letters\n\n```mermaid\nflowchart TD\n")
    assert out.endswith("```\n")
    drawn = json.loads(printed(capsys, "describe", APP, "--mermaid", "--json").out)
    assert drawn["described-letters"] in out
    assert len(drawn) == 7


def test_programs_get_one_document(capsys):
    found = json.loads(printed(capsys, "describe", APP, "--json").out)
    assert [one["name"] for one in found["queues"]] == ["payments"]
    order = found["sagas"][0]
    assert (order["kind"], order["timeout_s"]) == ("process manager", 5400.0)
    assert order["messages"][0]["guards"] == [{"statuses": ["new"], "condition": ""}]


def test_a_warning_is_a_line_and_fails_only_if_it_shall(capsys):
    shown = printed(capsys, "check", APP)
    assert shown.out.startswith(
        "described-order, @on_command_failed(described.ship): no-worker: no worker performs "
    )
    assert shown.err == "7 sagas, 1 work queue: 1 warning\n"
    assert printed(capsys, "check", APP, "--strict", exits=1).out == shown.out
    ignoring = ("--strict", "--ignore", "no-worker:described-order", "--ignore", "no-timeout")
    assert printed(capsys, "check", APP, *ignoring).out == ""


def test_a_warning_for_programs_has_its_parts(capsys):
    (line,) = printed(capsys, "check", APP, "--json").out.splitlines()
    found = json.loads(line)
    assert set(found) == {"rule", "name", "place", "problem", "remedy"}
    assert (found["rule"], found["name"]) == ("no-worker", "described-order")


def test_a_rule_that_does_not_exist_is_wrong_usage(capsys):
    err = printed(capsys, "check", APP, "--ignore", "no-timeuot", exits=2).err
    assert "there is no rule 'no-timeuot'; the rules are no-timeout, failure-unhandled, " in err


@pytest.mark.parametrize("command", ["describe", "check"])
def test_what_cannot_be_loaded_is_wrong_usage(command, capsys):
    err = printed(capsys, command, "tests.ops.cli.apps:NUMBER", exits=2).err
    assert "no Runtime" in err


@pytest.mark.parametrize("command", ["describe", "check"])
def test_nothing_is_started_and_no_file_is_made(command, perdure: Command):
    perdure(command, "tests.ops.cli.apps:over_any")
    assert os.listdir(perdure.path.parent) == []
    perdure(command, "tests.ops.cli.apps:over_any", "--", exits=2)
    assert "wants the store's URL" in perdure.err


def test_describing_needs_no_command_line():
    code = "import perdure.describing, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"typer", "rich", "perdure.ops.cli", "sqlalchemy"}.isdisjoint(done.stdout.split())
