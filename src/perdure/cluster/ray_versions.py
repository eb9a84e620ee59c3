"""Whether a node fits whoever brought the hosts up: Ray and Python, the same on all.

A host compares when it starts, on whatever node that is: also years later, on a node that came with
another image. perdure itself may differ while nodes are replaced one by one (its store says what
fits), and is shown. Next to read: ``ray_host.py``.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import version

from perdure.errors import DefinitionError

__all__ = ["check_versions", "versions"]


def versions() -> dict[str, str]:
    """Of this process; Python's without the last number, which may differ."""
    python = ".".join(platform.python_version_tuple()[:2])
    return {"Python": python, "Ray": version("ray"), "perdure": version("perdure")}


def check_versions(wanted: Mapping[str, str], here: Mapping[str, str]) -> None:
    """Raise ``DefinitionError`` saying what differs: what one has pickled, the other cannot read.

    >>> check_versions({"Python": "3.12", "Ray": "2.60.0"}, {"Python": "3.11", "Ray": "2.60.0"})
    Traceback (most recent call last):
    perdure.errors.DefinitionError: this node has Python 3.11, not 3.12; install the same ...
    """
    differing = [
        f"{what} {here[what]}, not {wanted[what]}"
        for what in ("Python", "Ray")
        if here[what] != wanted[what]
    ]
    if differing:
        raise DefinitionError(
            f"this node has {' and '.join(differing)}",
            remedy="install the same Ray and Python everywhere, as by one image",
        )
