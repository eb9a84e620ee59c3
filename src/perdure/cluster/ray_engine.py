"""Ray itself: the only module that imports it, when it is used; and the way to a cluster of it.

    async with connected("auto") as ray: ...

Ray is an extra. What goes wrong with it is told as a ``RayError``. Next to read: ``ray.py``.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from perdure.errors import PerdureError

__all__ = ["NAMESPACE", "RayError", "connected", "engine"]

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
        await asyncio.to_thread(
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
    try:
        yield ray
    finally:
        await asyncio.to_thread(ray.shutdown)


async def _reach(address: str) -> None:
    """See whether anybody listens there: Ray ends a process that connects to nobody."""
    host, _, port = _resolved(address).removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        return  # Ray says best itself what is wrong with it
    try:
        async with asyncio.timeout(REACH_S):
            _, writer = await asyncio.open_connection(host, int(port))
    except (OSError, TimeoutError) as error:
        raise RayError(
            f"the head of Ray at {host}:{port} cannot be reached: {error or 'no answer'}",
            remedy="see whether it runs (ray status). What the hosts have committed is in "
            "PostgreSQL; a new cluster of Ray and `perdure ray up` go on from there",
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
    except (AttributeError, OSError):  # not Ray's public words: without them it takes longer
        return ""
