"""Version, completion, help, exit codes, the small benchmark."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

import perdure.errors as errors
from perdure import PerdureError
from perdure.ops.cli import main
from perdure.ops.cli.app import app
from perdure.ops.cli.exits import Exit, exit_of
from perdure.ops.control import NoAnswer, Refused
from tests.ops.cli.support import Command

ROOT = Path(__file__).parent.parent.parent.parent


def test_the_version_is_said_for_people_and_for_programs(capsys):
    assert main(["version"]) == 0
    assert re.match(
        r"perdure \d+\.\d+\.\d+ \(stores of schema \d+; Python", capsys.readouterr().out
    )
    assert main(["version", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == {"perdure", "schema", "python", "sqlite"}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_script_of_a_shell_is_printed(shell, capsys):
    assert main(["completion", shell]) == 0
    printed = capsys.readouterr().out
    assert "_PERDURE_COMPLETE" in printed
    assert "perdure" in printed


def test_the_dashboard_is_printed(capsys):
    assert main(["grafana"]) == 0
    assert json.loads(capsys.readouterr().out)["panels"]


def test_there_is_no_completion_for_what_is_no_shell(capsys):
    assert main(["completion", "cmd\x1b[2J"]) == 2
    assert "\x1b" not in capsys.readouterr().err


def names(group, before=()):
    """Every command, as it is typed."""
    for one in group.registered_commands:
        yield (*before, one.name)
    for one in group.registered_groups:
        yield from names(one.typer_instance, (*before, one.name))


COMMANDS = sorted(names(app))


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help(command, capsys):
    assert main([*command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert "Usage:" in shown
    if command not in {("run",), ("completion",), ("grafana",)}:
        assert "--json" in shown


def test_every_command_is_in_the_reference():
    text = (ROOT / "docs" / "command-line.md").read_text()
    for command in COMMANDS:
        assert f"`perdure {' '.join(command)}" in text, command
    for code in Exit:
        assert f"| {code.value} |" in text


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.InstanceNotFound("x"), Exit.NOT_FOUND),
        (errors.UnknownQueue("x"), Exit.NOT_FOUND),
        (errors.NotRepairable("x"), Exit.REFUSED),
        (errors.InstanceMoved("x"), Exit.REFUSED),
        (errors.DecodeError("x"), Exit.REFUSED),
        (errors.Unroutable("x"), Exit.REFUSED),
        (errors.HandlerFailed("x"), Exit.FAILED),
        (errors.OutcomeUnknown("x"), Exit.FAILED),
        (errors.StoreLocked("x"), Exit.STORE),
        (errors.SchemaTooNew("x"), Exit.STORE),
        (NoAnswer("x"), Exit.STORE),
        (errors.DefinitionError("x"), Exit.USAGE),
        (PerdureError("x"), Exit.FAILED),
    ],
)
def test_an_error_has_the_same_exit_code_here_and_from_the_runtime_that_was_asked(error, code):
    assert exit_of(error) is code
    assert exit_of(Refused(type(error).__name__, "x")) is code or isinstance(error, NoAnswer)


def test_an_error_that_this_version_does_not_know_is_a_failure():
    assert exit_of(Refused("ErrorOfTomorrow", "x")) is Exit.FAILED
    assert exit_of(Refused("__builtins__", "x")) is Exit.FAILED
    assert exit_of(Refused("BadRequest", "x")) is Exit.USAGE


def test_the_benchmark_measures_on_the_disk_of_the_store_and_leaves_nothing(perdure: Command):
    words = ("bench", "--instances", "20", "--messages", "3")
    found = perdure.document(*words)
    assert found["turns"] == 60
    assert found["turns_per_s"] > 0
    assert "a second" in perdure(*words)
    assert os.listdir(perdure.path.parent) == []
