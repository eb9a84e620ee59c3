"""Requests that repair."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from perdure.ops.control.arguments import Arguments
from perdure.runtime.runtime import Runtime

__all__ = ["REPAIRS"]


async def _release(runtime: Runtime, given: Arguments) -> Any:
    ref = given.ref(runtime)
    return {"released": await runtime.release(ref)}


REPAIRS: dict[str, Callable[[Runtime, Arguments], Awaitable[Any]]] = {"release": _release}
