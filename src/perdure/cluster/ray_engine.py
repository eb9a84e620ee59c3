"""Ray itself: the only module that imports it, when it is used; and the way to a cluster of it.

    async with connected("auto") as ray: ...

Ray is an extra. What goes wrong with it is told as a ``RayError``. Next to read: ``ray.py``.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import signal
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, ParamSpec, TypeVar

from perdure.errors import PerdureError

__all__ = ["NAMESPACE", "RayError", "connected", "engine", "to_its_end"]

Given = ParamSpec("Given")
Result = TypeVar("Result")

NAMESPACE = "perdure"
"""Ray's namespace of our named actors, whatever the driver's own is."""

REACH_S = 5.0
"""How long a head is waited for. Ray alone would try for two minutes, then end the process."""


class RayError(PerdureError):
    """Ray is not installed, cannot be reached, or does not fit; or hosts are not as they should."""


def engine() -> Any:
    """The module ``ray``. Raises ``RayError`` where it is not installed."""
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise RayError(
            f"Ray cannot be imported: {error}",
            remedy="install the extra on every node: pip install 'perdure[ray]'; without Ray, "
            "processes over one PostgreSQL share the shards by themselves: perdure run",
        ) from error


async def to_its_end(
    function: Callable[Given, Result], *arguments: Given.args, **named: Given.kwargs
) -> Result:
    """Call it in a thread; who is cancelled meanwhile waits for it: Ray cannot be told to stop."""
    call = asyncio.ensure_future(asyncio.to_thread(function, *arguments, **named))
    try:
        return await asyncio.shield(call)
    except asyncio.CancelledError:
        await asyncio.wait([call])
        raise


@asynccontextmanager
async def connected(address: str) -> AsyncIterator[Any]:
    """Ray, this process connected to a cluster as a driver; left as it was found.

    Raises ``RayError`` if no cluster answers at ``address`` within 5 s, or it is one of another
    version of Ray or Python.
    """
    ray = engine()
    if ray.is_initialized():
        yield ray
        return
    await _reach(address)
    try:
        await to_its_end(
            ray.init,
            address=address,
            namespace=NAMESPACE,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (OSError, RuntimeError, ValueError) as error:
        raise RayError(
            f"no cluster of Ray at {address!r}: {error}",
            remedy="start one (ray start --head), or give its address, with the same versions of "
            "Ray and Python here as there",
        ) from error
    _take_sigterm_back()
    try:
        yield ray
    finally:
        await to_its_end(ray.shutdown)


def _take_sigterm_back() -> None:
    """Ray's own handler prints stacks and aborts, whatever this process does at SIGTERM."""
    handler = signal.getsignal(signal.SIGTERM)
    if handler is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)
        signal.siginterrupt(signal.SIGTERM, False)


async def _reach(address: str) -> None:
    """See whether anybody listens there: Ray ends a process that connects to nobody."""
    host, _, port = _resolved(address).removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        return  # Ray says best itself what is wrong with it
    try:
        async with asyncio.timeout(REACH_S):
            _, writer = await asyncio.open_connection(host, int(port))
    except (OSError, TimeoutError) as error:
        why = "nobody listens there" if isinstance(error, ConnectionRefusedError) else error
        raise RayError(
            f"the head of Ray at {host}:{port} cannot be reached: {why or 'no answer'}",
            remedy="give the address of one that runs (--address, RAY_ADDRESS), or start one: ray "
            "start --head. What hosts have committed is in PostgreSQL, and `perdure ray up` on a "
            "new cluster goes on from there",
        ) from error
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


def _resolved(address: str) -> str:
    """What "auto" stands for: the variable RAY_ADDRESS, else the cluster of this machine."""
    if address != "auto":
        return address
    if found := os.environ.get("RAY_ADDRESS"):
        return found
    services = importlib.import_module("ray._private.services")
    try:
        return services.canonicalize_bootstrap_address("auto") or ""
    except ConnectionError as error:
        raise RayError(
            "no cluster of Ray runs on this machine",
            remedy="give the address of one (--address 10.0.0.5:6379, or RAY_ADDRESS), or start "
            "one here: ray start --head",
        ) from error
    except (AttributeError, OSError):  # not Ray's public words: without them it takes longer
        return ""
