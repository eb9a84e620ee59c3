"""``perdure run module:app``: a runtime in a process of its own, until it is told to stop.

SIGTERM and SIGINT drain and stop it; a second one ends the process at once, which loses nothing
that was acknowledged. With ``--processes`` a parent does this with several; each of those drains
however often it is told to, since the parent and whoever told the parent may both have done so.
Next to read: ``processes.py``, the parent; ``runtime/loading.py``.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
from contextlib import AsyncExitStack
from typing import Annotated

import typer

from perdure.ops.cli.child import Parent
from perdure.ops.cli.clustered import check_shared, one_of_many
from perdure.ops.cli.exits import Exit
from perdure.ops.cli.options import log_as
from perdure.ops.cli.processes import RESTARTS_MAX, Processes
from perdure.runtime.loading import load_runtime, url_named
from perdure.runtime.runtime import Runtime
from perdure.store.urls import url_of

__all__ = ["run"]

logger = logging.getLogger("perdure.run")

STORE_VARIABLE = "PERDURE_STORE"
PROCESSES_MAX = 256
SIGNALS = (signal.SIGTERM, signal.SIGINT)


AppArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODULE:APP",
        envvar="PERDURE_APP",
        help="A Runtime, or a function that makes one; it may take the store's URL.",
    ),
]
StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        "-s",
        envvar=STORE_VARIABLE,
        help="The store to run over, in place of the one your code names: a URL, or a file.",
    ),
]
ProcessesOption = Annotated[
    int,
    typer.Option(
        "--processes",
        "-p",
        min=1,
        max=PROCESSES_MAX,
        help="So many, which share the work. PostgreSQL only.",
    ),
]
NameOption = Annotated[
    str | None,
    typer.Option("--name", help="Of the process, in logs and listings; by default the host's."),
]
RestartsOption = Annotated[
    int,
    typer.Option(
        "--restarts",
        min=0,
        help="Times in a row that one of several processes is started again after it died.",
    ),
]
LevelOption = Annotated[
    str, typer.Option(help="Of perdure's loggers, on stderr.", case_sensitive=False)
]


async def run(
    app: AppArgument,
    store: StoreOption = None,
    processes: ProcessesOption = 1,
    name: NameOption = None,
    restarts: RestartsOption = RESTARTS_MAX,
    log_level: LevelOption = "INFO",
    parent: Annotated[int | None, typer.Option("--parent", hidden=True)] = None,
) -> Exit:
    """Run your runtime until SIGTERM or SIGINT, then drain and stop it.

    Over PostgreSQL, processes share the work: those of --processes, and all that run elsewhere.
    Exits with 0 when it was told to stop, with 1 if it has stopped by itself, 5 if the store is in
    use or cannot be used.
    """
    level = logging.getLevelNamesMapping().get(log_level.upper())
    if level is None:
        raise typer.BadParameter(f"{log_level!r} is no level", param_hint="--log-level")
    logging.getLogger("perdure").setLevel(level)
    store = None if store is None else url_named(store)
    if processes > 1:
        if store is not None:
            check_shared(store, repr(store))
        commands = [_command(app, name, number, log_level) for number in _upto(processes)]
        environment = {} if store is None else {STORE_VARIABLE: store}
        return await Processes(commands, restarts_max=restarts, environment=environment).run()
    runtime = one_of_many(await load_runtime(app, store), name=name)
    if parent is None:
        return await _until_told(runtime)
    return await _as_child(runtime, Parent(parent), app, name)


def _upto(processes: int) -> range:
    return range(1, processes + 1)


def _command(app: str, name: str | None, number: int, log_level: str) -> list[str]:
    """This command for one of several processes."""
    command = [sys.executable, "-m", "perdure.ops.cli", "run", app, "--log-level", log_level]
    return [*command, "--name", f"{name or socket.gethostname()}-{number}"]


async def _as_child(runtime: Runtime, parent: Parent, app: str, name: str | None) -> Exit:
    """As one of several processes."""
    log_as(name or "")
    check_shared(url_of(runtime.store), f"of {app!r}")
    try:
        return await _until_told(runtime, parent)
    finally:
        parent.close()
        loop = asyncio.get_running_loop()
        for one in SIGNALS:  # told once more while it ends, it has drained all the same
            loop.remove_signal_handler(one)
            signal.signal(one, signal.SIG_IGN)


async def _until_told(runtime: Runtime, parent: Parent | None = None) -> Exit:
    """Run it until a signal comes, the parent has gone, or it has stopped by itself."""
    loop, told = asyncio.get_running_loop(), _told_by_signals(is_once=parent is None)

    def on_gone() -> None:
        logger.warning("the parent process is gone")
        told.set()

    if not await _has_started(runtime, told):
        logger.info("stopped before it was up")
        return Exit.OK
    async with AsyncExitStack() as stopping:
        stopping.push_async_exit(runtime)
        if parent is not None:
            parent.when_gone(on_gone)
            parent.tell_up()
        waiting = {loop.create_task(told.wait()), loop.create_task(runtime.stopped())}
        done, left = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in left:
            task.cancel()
        if told.is_set():
            more = "" if parent is not None else "; a second signal ends the process at once"
            logger.info("stopping%s", more)
        await asyncio.gather(*done, return_exceptions=True)
    if told.is_set():
        return Exit.OK
    logger.error("the runtime has stopped by itself")
    return Exit.FAILED


def _told_by_signals(is_once: bool) -> asyncio.Event:
    """Set by a signal; with ``is_once`` a second one ends the process."""
    loop, told = asyncio.get_running_loop(), asyncio.Event()

    def on_signal() -> None:
        told.set()
        if is_once:
            for one in SIGNALS:
                loop.remove_signal_handler(one)

    for one in SIGNALS:
        loop.add_signal_handler(one, on_signal)
    return told


async def _has_started(runtime: Runtime, told: asyncio.Event) -> bool:
    """Start it, unless one is told to stop meanwhile: a server that says nothing takes long."""
    starting = asyncio.ensure_future(runtime.start())
    telling = asyncio.ensure_future(told.wait())
    await asyncio.wait({starting, telling}, return_when=asyncio.FIRST_COMPLETED)
    telling.cancel()
    if not starting.done():
        starting.cancel()
        await asyncio.wait({starting})
    if starting.cancelled():
        return False
    starting.result()
    return True
