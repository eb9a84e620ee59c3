"""The arguments of a request, read one by one with their types; what is left over is a mistake.

Next to read: ``requests.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from perdure.ops.control.lines import BadRequest
from perdure.runtime.ref import SagaRef
from perdure.runtime.runtime import Runtime

__all__ = ["Arguments"]


class Arguments:
    """Arguments by name; each is taken once. All methods raise ``BadRequest``."""

    def __init__(self, do: str, given: Mapping[str, Any]) -> None:
        self._do = do
        self._left = dict(given)

    def text(self, name: str) -> str:
        """A text that must be there."""
        value = self.optional_text(name)
        if value is None:
            raise BadRequest(f"{self._do} needs {name!r}, a text")
        return value

    def optional_text(self, name: str) -> str | None:
        """A text, or None."""
        value = self._left.pop(name, None)
        if value is not None and type(value) is not str:
            raise self._wrong(name, "a text", value)
        if value is not None and any("\ud800" <= one <= "\udfff" for one in value):
            raise self._wrong(name, "valid Unicode", value)
        return value

    def number(self, name: str) -> int:
        """A whole number that must be there."""
        value = self.optional_number(name)
        if value is None:
            raise BadRequest(f"{self._do} needs {name!r}, a whole number")
        return value

    def optional_number(self, name: str) -> int | None:
        """A whole number, or None."""
        value = self._left.pop(name, None)
        if value is not None and type(value) is not int:
            raise self._wrong(name, "a whole number", value)
        return value

    def flag(self, name: str) -> bool:
        """True or false; false if it is not there."""
        value = self._left.pop(name, False)
        if type(value) is not bool:
            raise self._wrong(name, "true or false", value)
        return value

    def optional_texts(self, name: str) -> dict[str, str] | None:
        """Texts by name, or None."""
        value = self._left.pop(name, None)
        if value is None:
            return None
        if type(value) is not dict or not all(type(one) is str for one in value.values()):
            raise self._wrong(name, "texts by name", value)
        return value

    def ref(self, runtime: Runtime) -> SagaRef:
        """The instance that ``saga`` and ``id`` name; the id as listings show it, encoded."""
        return runtime.ref_to(_Seen(self.text("saga"), self.text("id")))

    def message(self) -> dict[str, Any]:
        """What ``type``, ``data`` and ``version`` describe, as an event from outside is."""
        message = self.optional_message()
        if message is None:
            raise BadRequest(f"{self._do} needs 'type', the type name of a message, and its 'data'")
        return message

    def optional_message(self) -> dict[str, Any] | None:
        """The same, or None if there is no ``type``."""
        name, data = self.optional_text("type"), self._left.pop("data", None)
        version = self._left.pop("version", None)
        if name is None:
            return None
        message = {"type": name, "data": {} if data is None else data}
        return message if version is None else {**message, "version": version}

    def result(self) -> Any:
        """What a worker has returned: a message, or the plain value ``result``, or None."""
        plain = self._left.pop("result", None)
        message = self.optional_message()
        return plain if message is None else message

    def end(self) -> None:
        """Nothing else was given."""
        if self._left:
            raise BadRequest(f"{self._do} takes no {', '.join(map(repr, sorted(self._left)))}")

    def _wrong(self, name: str, wanted: str, value: object) -> BadRequest:
        return BadRequest(f"{self._do}: {name!r} is {repr(value)[:40]}, not {wanted}")


class _Seen:
    """An instance as it was seen in a listing."""

    def __init__(self, saga: str, correlation_id: str) -> None:
        self.saga = saga
        self.correlation_id = correlation_id
