"""``perdure run module:runtime``: a runtime in a process of its own, until it is told to stop.

SIGTERM and SIGINT drain and stop it; a second one ends the process at once, which loses nothing
that was acknowledged. Next to read: ``loading.py``.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from typing import Annotated

import typer

from perdure.ops.cli.exits import Exit
from perdure.ops.cli.loading import load_runtime

__all__ = ["run"]

logger = logging.getLogger("perdure.run")

SIGNALS = (signal.SIGTERM, signal.SIGINT)


async def run(
    app: Annotated[
        str,
        typer.Argument(metavar="MODULE:RUNTIME", envvar="PERDURE_APP", help="As --app elsewhere."),
    ],
    log_level: Annotated[
        str, typer.Option(help="Of perdure's loggers, on stderr.", case_sensitive=False)
    ] = "INFO",
) -> Exit:
    """Run your runtime until SIGTERM or SIGINT, then drain and stop it.

    Exits with 0 when it was told to stop, with 1 if it has stopped by itself, 5 if the store is in
    use or cannot be used.
    """
    level = logging.getLevelNamesMapping().get(log_level.upper())
    if level is None:
        raise typer.BadParameter(f"{log_level!r} is no level", param_hint="--log-level")
    logging.getLogger("perdure").setLevel(level)
    runtime = await load_runtime(app)
    told = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        told.set()
        for one in SIGNALS:
            loop.remove_signal_handler(one)

    for one in SIGNALS:
        loop.add_signal_handler(one, on_signal)
    async with runtime:
        waiting = {loop.create_task(told.wait()), loop.create_task(runtime.stopped())}
        done, left = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in left:
            task.cancel()
        if told.is_set():
            logger.info("stopping; a second signal ends the process at once")
        await asyncio.gather(*done, return_exceptions=True)
    if told.is_set():
        return Exit.OK
    logger.error("the runtime has stopped by itself")
    return Exit.FAILED
