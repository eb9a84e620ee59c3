"""From ``module:attribute`` to a ``Runtime``: the user's own code, imported.

The attribute is a runtime, or a function that makes one (it may be a coroutine function). The
function may take the store's URL, as ``store`` or ``url`` or as its only argument without a
default; a runtime that was made over another store is made anew over the one that is named.
The working directory is searched first, as ``python -m`` does. Next to read: ``runtime.py``.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable
from typing import Any

from perdure.errors import DefinitionError
from perdure.runtime.runtime import Runtime

__all__ = ["load_runtime", "url_named"]

_REMEDY = "give module:attribute, as --app shop.service:runtime"
_NAMES = ("store", "url")


async def load_runtime(app: str, store: str | None = None, *, moves: bool = True) -> Runtime:
    """The runtime that ``app`` names, not started, over ``store``. Raises ``DefinitionError``.

    Unless it ``moves``, one that was made over another store is left there.
    """
    module_name, _, path = app.partition(":")
    if not module_name or not path:
        raise DefinitionError(f"{app!r} names no attribute of a module", remedy=_REMEDY)
    found = _attribute(_module(app, module_name), app, path)
    if callable(found) and not isinstance(found, Runtime):
        given = _arguments(app, found, store)
        try:
            found = found(**given)
            if inspect.isawaitable(found):
                found = await found
        except DefinitionError:  # such as a URL that is wrong: it says so itself
            raise
        except Exception as error:
            raise DefinitionError(
                f"{app!r} makes no runtime: {type(error).__name__}: {error}",
                remedy="it is called without arguments, or with the store's URL",
            ) from error
        store = None if given else store
    if not isinstance(found, Runtime):
        raise DefinitionError(f"{app!r} is a {type(found).__name__}, no Runtime", remedy=_REMEDY)
    return found.over(store) if moves and store is not None else found


def url_named(store: str) -> str:
    """The URL, also of a file that is named by its path.

    >>> url_named("orders.db")
    'sqlite+aiosqlite:///orders.db'
    """
    return store if ":" in store.partition("/")[0] else f"sqlite+aiosqlite:///{store}"


def _arguments(app: str, function: Callable[..., Any], store: str | None) -> dict[str, str]:
    """What the function is called with: the store's URL under the name that it has there."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # such as some builtins
        return {}
    named = [one for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)]
    needed = [one.name for one in named if one.default is one.empty]
    taken = next((one.name for one in named if one.name in _NAMES), None)
    if taken is None and len(needed) == 1:
        taken = needed[0]
    if taken is None or (store is None and taken not in needed):
        return {}
    if store is None:
        raise DefinitionError(
            f"{app!r} wants the store's URL",
            remedy="give --store, or set PERDURE_STORE in the environment",
        )
    return {taken: store}


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
