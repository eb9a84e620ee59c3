"""``perdure version``, ``completion``, ``grafana``: what needs no store."""

from __future__ import annotations

import platform
from importlib import import_module
from importlib.metadata import version as version_of
from importlib.resources import files
from typing import Annotated

import typer

from perdure.errors import DefinitionError
from perdure.ops.cli.options import JsonOption
from perdure.ops.cli.output import Output
from perdure.store.schema import SCHEMA_VERSION
from perdure.store.sql import SQLITE_VERSION

__all__ = ["completion", "grafana", "version"]

SHELLS = ("bash", "zsh", "fish", "powershell", "pwsh")


async def version(as_json: JsonOption = False) -> None:
    """The versions of perdure, of its stores, of Python and of SQLite."""
    found = {
        "perdure": version_of("perdure"),
        "schema": SCHEMA_VERSION,
        "python": platform.python_version(),
        "sqlite": SQLITE_VERSION,
    }
    text = (
        f"perdure {found['perdure']} (stores of schema {found['schema']}; "
        f"Python {found['python']}, SQLite {found['sqlite']})"
    )
    Output(as_json).line(text, found)


async def completion(
    shell: Annotated[str, typer.Argument(help=f"One of {', '.join(SHELLS)}.")],
) -> None:
    """Print the completion script of a shell: eval "$(perdure completion bash)"."""
    if shell not in SHELLS:
        raise DefinitionError(
            f"there is no completion for {shell!r}", remedy=f"give one of {', '.join(SHELLS)}"
        )
    typer_completion = import_module("typer.completion")  # it has it, and does not list it
    print(
        typer_completion.get_completion_script(
            prog_name="perdure", complete_var="_PERDURE_COMPLETE", shell=shell
        )
    )


async def grafana() -> None:
    """Print the Grafana dashboard of perdure's metrics, to be imported there."""
    print(files("perdure.ops").joinpath("grafana.json").read_text(encoding="utf-8"))
