"""Letting the event loop turn until something is so, without sleeping."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["until"]


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Raises ``TimeoutError`` if it does not come true."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - the loop's turns are what is being tested
            await asyncio.sleep(0)
