"""What is given on the command line: data in JSON, and who gives it.

Next to read: ``sending.py``.
"""

from __future__ import annotations

import getpass
import json
import os
import sys
from typing import Any

from perdure.errors import DefinitionError

__all__ = ["data_of", "who"]


def data_of(text: str | None) -> Any:
    """The value of JSON text, of a file (@FILE), or of stdin (-). Raises ``DefinitionError``."""
    if text is None:
        return None
    try:
        return json.loads(_read(text))
    except (ValueError, RecursionError) as error:
        raise DefinitionError(
            f"the data are no JSON: {error}", remedy='give some such as \'{"order_id": "o-1"}\''
        ) from None


def _read(text: str) -> str:
    try:
        if text == "-":
            return sys.stdin.read()
        if text.startswith("@"):
            with open(text[1:], encoding="utf-8") as file:
                return file.read()
    except OSError as error:
        raise DefinitionError(
            f"cannot read {text[1:]!r}: {error.strerror}", remedy="give @FILE, or - for stdin"
        ) from error
    return text


def who() -> str:
    """Who works here: the user of the system, also behind ``sudo``."""
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"
