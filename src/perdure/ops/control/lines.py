"""What is said on a control socket: one JSON object a line, in both directions.

    {"v": 1, "id": 7, "do": "release", "with": {"saga": "Order", "id": "o-1"}}
    {"v": 1, "id": 7, "ok": true, "result": {"released": true}}
    {"v": 1, "id": 8, "ok": false, "error": {"type": "UnknownSaga", "problem": "…", …}}

Answers may come in another order than their requests. Messages are given as type name and JSON
data. Knows no sockets. Next to read: ``requests.py``, what may be asked.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import perdure.errors as errors
from perdure.errors import PerdureError

__all__ = ["LINE_BYTES_MAX", "VERSION", "BadRequest", "Refused", "Request"]

VERSION = 1
LINE_BYTES_MAX = 8 * 1024 * 1024
"""Room for a message of the largest size that runtimes take by default, escaped."""
TEXT_CHARS_MAX = 10_000


class BadRequest(PerdureError):
    """What was said is no request."""


class Refused(PerdureError):
    """The runtime has refused; ``kind`` is the name of its error, ``like`` the error's class."""

    def __init__(self, kind: str, problem: str, **about: str | None) -> None:
        super().__init__(problem, **about)
        self.kind = kind
        found = getattr(errors, kind, None)
        self.like: type[PerdureError] = PerdureError
        if isinstance(found, type) and issubclass(found, PerdureError):
            self.like = found


@dataclass(frozen=True, slots=True)
class Request:
    """Do something, with these arguments. ``id`` names it in its answer."""

    id: int
    do: str
    arguments: Mapping[str, Any]

    @classmethod
    def of(cls, line: bytes) -> Request:
        """Read a line. Raises ``BadRequest``."""
        said = _object(line)
        if said.get("v") != VERSION:
            raise BadRequest(f"version {_short(said.get('v'))} is not spoken here, but {VERSION}")
        number, do, arguments = said.get("id"), said.get("do"), said.get("with", {})
        if type(number) is not int or type(do) is not str or type(arguments) is not dict:
            raise BadRequest("a request has a whole number as id, a do, and an object as with")
        return cls(number, do, arguments)

    def line(self) -> bytes:
        """As it is sent."""
        return _line({"v": VERSION, "id": self.id, "do": self.do, "with": self.arguments})


def answer(number: int | None, result: Any) -> bytes:
    """The line that answers a request."""
    return _line({"v": VERSION, "id": number, "ok": True, "result": result})


def refusal(number: int | None, error: BaseException) -> bytes:
    """The line that says why nothing was done. ``number`` None: the connection is given up."""
    told = {"type": type(error).__name__, "problem": _cut(str(error))}
    if isinstance(error, PerdureError):
        told["problem"] = _cut(error.problem)
        for name in ("saga", "correlation_id", "remedy"):
            if (value := getattr(error, name)) is not None:
                told[name] = _cut(value)
    return _line({"v": VERSION, "id": number, "ok": False, "error": told})


def answered(line: bytes) -> tuple[int | None, Any]:
    """Read an answer: the request's number, and the result or a ``Refused``."""
    said = _object(line)
    number = said.get("id")
    if said.get("v") != VERSION or not (number is None or type(number) is int):
        raise BadRequest(f"it speaks version {_short(said.get('v'))}, not {VERSION}")
    if said.get("ok") is True:
        return number, said.get("result")
    told = said.get("error")
    told = told if isinstance(told, dict) else {}
    texts = {name: value for name, value in told.items() if isinstance(value, str)}
    kind, problem = texts.pop("type", "PerdureError"), texts.pop("problem", "refused")
    about = {name: texts.get(name) for name in ("saga", "correlation_id", "remedy")}
    return number, Refused(kind, problem, **about)


def _object(line: bytes) -> dict[str, Any]:
    try:
        said = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"a line that is no JSON: {error}") from None
    if type(said) is not dict:
        raise BadRequest("a line that is no JSON object")
    return said


def _line(said: Mapping[str, Any]) -> bytes:
    return json.dumps(said, ensure_ascii=True, separators=(",", ":")).encode() + b"\n"


def _cut(text: str) -> str:
    """An error may carry what a message held, however long."""
    clean = text[:TEXT_CHARS_MAX].encode("utf-8", "backslashreplace").decode()
    return clean if len(text) <= TEXT_CHARS_MAX else f"{clean}… ({len(text):,} characters in all)"


def _short(value: object) -> str:
    return repr(value)[:40]
