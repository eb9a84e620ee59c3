"""From ``--app module:attribute`` to a ``Runtime``: the user's own code, imported.

The attribute is a runtime, or a function without parameters that makes one (it may be a coroutine
function). The working directory is searched first, as ``python -m`` does. Next to read:
``running.py``.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from typing import Any

from perdure.errors import DefinitionError
from perdure.runtime.runtime import Runtime

__all__ = ["load_runtime"]

_REMEDY = "give module:attribute, as --app shop.service:runtime"


async def load_runtime(app: str) -> Runtime:
    """The runtime that ``app`` names, not started. Raises ``DefinitionError``."""
    module_name, _, path = app.partition(":")
    if not module_name or not path:
        raise DefinitionError(f"{app!r} names no attribute of a module", remedy=_REMEDY)
    found = _attribute(_module(app, module_name), app, path)
    if callable(found) and not isinstance(found, Runtime):
        try:
            found = found()
            if inspect.isawaitable(found):
                found = await found
        except Exception as error:
            raise DefinitionError(
                f"{app!r} makes no runtime: {type(error).__name__}: {error}",
                remedy="it is called without arguments",
            ) from error
    if not isinstance(found, Runtime):
        raise DefinitionError(f"{app!r} is a {type(found).__name__}, no Runtime", remedy=_REMEDY)
    return found


def _module(app: str, name: str) -> Any:
    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except Exception as error:
        raise DefinitionError(
            f"the module of {app!r} cannot be imported: {type(error).__name__}: {error}",
            remedy="run this where `python -c 'import …'` of it works; looking can do without: "
            "leave --app away, and unset PERDURE_APP",
        ) from error


def _attribute(module: Any, app: str, path: str) -> Any:
    found = module
    for name in path.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            raise DefinitionError(f"{app!r}: there is no {name!r}", remedy=_REMEDY) from None
    return found
