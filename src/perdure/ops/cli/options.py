"""Options that many commands share, and what surrounds every command.

A command is a coroutine function that returns its exit code, or None for success. Errors of perdure
become a line on stderr and an exit code. Next to read: ``exits.py``; ``targets.py``, which makes
something of the options.
"""

from __future__ import annotations

import asyncio
import functools
import io
import logging
import os
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Annotated, Any, TextIO

import typer

from perdure.errors import DefinitionError, PerdureError
from perdure.ops.cli.exits import Exit, exit_of
from perdure.ops.cli.output import Output
from perdure.ops.cli.safe import is_unicode, safe_lines

__all__ = [
    "NUMBER_MAX",
    "AppOption",
    "ByOption",
    "DryRunOption",
    "FullOption",
    "InstanceArgument",
    "JsonOption",
    "LimitOption",
    "StoreOption",
    "TimeoutOption",
    "WhyOption",
    "YesOption",
    "add",
    "instance_of",
    "log_as",
]

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"

NUMBER_MAX = 2**63 - 1
"""The largest number that a store has."""

StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        "-s",
        envvar="PERDURE_STORE",
        help="The store, a URL such as sqlite+aiosqlite:///orders.db, or the path of the file.",
    ),
]
AppOption = Annotated[
    str | None,
    typer.Option(
        "--app",
        "-a",
        envvar="PERDURE_APP",
        help="module:attribute of your Runtime, or of a function that makes it.",
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="JSON on stdout: a line a row, or one document.")
]
FullOption = Annotated[
    bool, typer.Option("--full", help="Show long values at length: up to 10,000 elements each.")
]
LimitOption = Annotated[
    int, typer.Option("--limit", "-n", min=1, help="So many rows at most.", show_default=True)
]
ByOption = Annotated[
    str | None,
    typer.Option("--by", envvar="PERDURE_BY", help="Who does it; by default, who you are here."),
]
WhyOption = Annotated[
    str,
    typer.Option("--why", help="Why it is done. It is kept in the journal.", show_default=False),
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do it without asking.")]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")
]
InstanceArgument = Annotated[
    str,
    typer.Argument(
        metavar="SAGA/ID",
        help="The instance, as listings show it; all after the first / is its id.",
    ),
]

TimeoutOption = Annotated[
    float,
    typer.Option("--timeout", min=0.1, max=3600, help="Seconds to wait for each answer."),
]

Command = Callable[..., Coroutine[Any, Any, Exit | None]]


def add(app: typer.Typer, name: str, command: Command, **options: Any) -> None:
    """Make a coroutine function a command of an app."""

    @functools.wraps(command)
    def run(**given: Any) -> None:
        raise typer.Exit(_run(command, given))

    app.command(name, **options)(run)


def _run(command: Command, given: dict[str, Any]) -> int:
    _prepare_stdout()
    output = Output(bool(given.get("as_json")))
    try:
        with _logs_on_stderr():
            code = asyncio.run(command(**given)) or Exit.OK
            sys.stdout.flush()
            return code
    except PerdureError as error:
        output.error(error)
        return exit_of(error)
    except KeyboardInterrupt:
        output.note("interrupted")
        return Exit.INTERRUPTED
    except BrokenPipeError:  # whoever read the output has seen enough
        _drop_output()
        return Exit.OK
    except OSError as error:  # such as a full disk behind ``> file``
        output.error(error)
        _drop_output()
        return Exit.FAILED


def _prepare_stdout() -> None:
    """What its encoding has no letters for is written as escapes; closed, it is written nowhere."""
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - till the end
    elif isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _drop_output() -> None:
    """What was not written yet shall not be tried again when the process ends."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Safe(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return safe_lines(super().format(record))


class _OnStderr(logging.StreamHandler[TextIO]):
    def __init__(self) -> None:
        super().__init__(sys.stderr)
        self.setFormatter(_Safe(LOG_FORMAT))


def log_as(name: str) -> None:
    """Begin the lines of the log with a name: several processes write to one place."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, _OnStderr):
            handler.setFormatter(_Safe(f"{name.replace('%', '%%')} {LOG_FORMAT}"))


@contextmanager
def _logs_on_stderr() -> Iterator[None]:
    """What perdure and the user's code log, from WARNING on; ``run`` lowers that."""
    handler = _OnStderr()
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)


def instance_of(named: str) -> tuple[str, str]:
    """(saga, encoded id) of an instance as it is named on the command line."""
    saga, slash, correlation_id = named.partition("/")
    if not saga or not slash or not correlation_id:
        raise DefinitionError(
            f"{named!r} names no instance", remedy="give SAGA/ID, as Order/o-1; see instances list"
        )
    if not is_unicode(named):
        raise DefinitionError(
            f"{named!r} is not valid Unicode", remedy="give the id as listings show it, in UTF-8"
        )
    return saga, correlation_id
