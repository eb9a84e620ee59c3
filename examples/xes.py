"""Reads an event log in XES, the XML of process mining, gzipped or not, without trusting it.

    for event in read_events(Path("log.xes.gz")):
        print(event.at, event.case, event.activity)

A log is a list of traces (cases), a trace a list of events; both carry keyed attributes:

    <log> <trace>  <string key="concept:name" value="declaration 1"/>
                   <event> <string key="id" value="step 7"/> … </event> </trace> </log>

The file is parsed as a stream: no more than one trace is held. A document type definition is
refused, so there are no entities to blow up and nothing is fetched from elsewhere. Tags may be in
a namespace or not. Next to read: ``declarations.py``, which feeds these events to a runtime.
"""

from __future__ import annotations

import gzip
import sys
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO, NamedTuple
from xml.parsers import expat

__all__ = ["XesError", "XesEvent", "read_events"]

CHUNK_BYTES = 64 * 1024
TOKEN_BYTES_MAX = 1024 * 1024
"""One tag with its attributes; the parser has to hold it whole."""
DEPTH_MAX = 100
"""Attributes may hold attributes; a document nested deeper than this is no log."""

_LEVELS = ("log", "trace", "event")
_WANTED = frozenset(("concept:name", "time:timestamp", "id"))
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_GZIP_MAGIC = b"\x1f\x8b"


class XesError(Exception):
    """The file is no event log that can be used. The text names the file and the line."""


class XesEvent(NamedTuple):
    """One event, small: whole milliseconds since the epoch, trace, activity, and the event's id."""

    at_ms: int
    case: str
    activity: str
    id: str

    @property
    def at(self) -> datetime:
        """When it happened (aware, UTC)."""
        return _EPOCH + timedelta(milliseconds=self.at_ms)


def read_events(path: Path, on_progress: Callable[[int], None] | None = None) -> Iterator[XesEvent]:
    """The events in the order of the file; ``on_progress`` is told how many bytes of it are read.

    Raises ``XesError`` for anything but a well-formed log, ``OSError`` if it cannot be read.
    """
    reader = _Reader(path)
    with path.open("rb") as file:
        is_gzip = file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
        file.seek(0)
        stream = gzip.GzipFile(fileobj=file) if is_gzip else file
        while chunk := reader.chunk_of(stream):
            yield from reader.feed(chunk)
            if on_progress is not None:
                on_progress(file.tell())
        yield from reader.feed(b"", is_last=True)


class _Reader:
    """Expat's callbacks. ``_level`` counts the open ones of log, trace and event, one in another;
    ``_depth`` all open elements, so that attributes of attributes are told from those of events."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._parser = expat.ParserCreate(namespace_separator=" ")
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.StartDoctypeDeclHandler = self._doctype
        self._fed = 0
        self._depth = 0
        self._level = 0
        self._case: str | None = None
        self._trace_line = 0
        self._attributes: dict[str, str] = {}
        self._trace: list[tuple[int, str, str]] = []
        self._ready: list[XesEvent] = []

    def chunk_of(self, stream: gzip.GzipFile | BinaryIO) -> bytes:
        """The next bytes of the document, unpacked."""
        try:
            return stream.read(CHUNK_BYTES)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise self._error(f"the gzip data is damaged or cut off: {error}") from None

    def feed(self, chunk: bytes, *, is_last: bool = False) -> list[XesEvent]:
        """The events of the traces that end in this chunk."""
        try:
            self._parser.Parse(chunk, is_last)
        except expat.ExpatError as error:
            reason = expat.errors.messages[error.code]
            raise self._error(f"not well-formed XML: {reason}", error.lineno) from None
        self._fed += len(chunk)
        if self._fed - self._parser.CurrentByteIndex > TOKEN_BYTES_MAX:
            raise self._error(f"a tag has more than {TOKEN_BYTES_MAX} bytes")
        ready, self._ready = self._ready, []
        return ready

    def _doctype(self, name: str, *_: object) -> None:
        raise self._error(f"a document type definition ({name}) is not accepted")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        depth = self._depth
        self._depth = depth + 1
        if depth != self._level:  # within something that does not concern us
            if depth == DEPTH_MAX:
                raise self._error(f"elements are nested deeper than {DEPTH_MAX}")
        elif depth < len(_LEVELS) and name.rpartition(" ")[2] == _LEVELS[depth]:
            self._level = depth + 1
            self._open(depth)
        elif depth == 0:
            raise self._error(f"the document is a <{name.rpartition(' ')[2]}>, not a <log>")
        elif depth > 1:
            self._attribute(depth, attributes.get("key"), attributes.get("value"))

    def _open(self, depth: int) -> None:
        if depth == 1:
            self._case, self._trace, self._trace_line = None, [], self._line
        elif depth == 2:
            self._attributes = {}

    def _attribute(self, depth: int, key: str | None, value: str | None) -> None:
        if key not in _WANTED or value is None:
            return
        if depth == len(_LEVELS):
            self._attributes[key] = value
        elif key == "concept:name":
            self._case = value

    def _end(self, name: str) -> None:
        self._depth -= 1
        if self._depth < self._level:
            if self._level == 3:
                self._trace.append(self._event())
            elif self._level == 2:
                self._end_trace()
            self._level -= 1

    def _event(self) -> tuple[int, str, str]:
        at = self._value("time:timestamp")
        try:
            at_ms = (datetime.fromisoformat(at) - _EPOCH) // timedelta(milliseconds=1)
        except (ValueError, TypeError):  # TypeError: it has no time zone
            raise self._error(f"{at[:80]!r} is no date and time with a time zone") from None
        if at_ms < 0:
            raise self._error(f"{at[:80]!r} is before 1970")
        # Activities repeat endlessly: one text for all keeps a big log small.
        return at_ms, sys.intern(self._value("concept:name")), self._value("id")

    def _value(self, key: str) -> str:
        value = self._attributes.get(key)
        if not value:
            raise self._error(f"an event has no {key!r}")
        return value

    def _end_trace(self) -> None:
        if not self._case:
            raise self._error("a trace has no 'concept:name'", self._trace_line)
        case = self._case
        self._ready += [
            XesEvent(at_ms, case, activity, id_) for at_ms, activity, id_ in self._trace
        ]

    @property
    def _line(self) -> int:
        return self._parser.CurrentLineNumber

    def _error(self, problem: str, line: int | None = None) -> XesError:
        return XesError(f"{self._path}, line {line or self._line}: {problem}")
