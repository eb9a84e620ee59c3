"""Values of which somebody else may hold a part: a copy, unless nobody can change them. Pure.

Next to read: ``saga.py``, ``is_immutable``.
"""

from __future__ import annotations

import copy
from typing import TypeVar
from weakref import WeakKeyDictionary

from perdure.core.saga import is_immutable

__all__ = ["own"]

T = TypeVar("T")

_IMMUTABLE: WeakKeyDictionary[type, bool] = WeakKeyDictionary()


def own(value: T) -> T:
    """The value for whoever asks to keep: nobody else's changes show in it, nor the reverse."""
    kind = type(value)
    frozen = _IMMUTABLE.get(kind)
    if frozen is None:
        frozen = _IMMUTABLE[kind] = is_immutable(kind)
    return value if frozen else copy.deepcopy(value)
