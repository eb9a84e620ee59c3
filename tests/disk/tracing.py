"""What a process did to the files of a directory, in order, as strace saw it.

A write counts from where it began (some of it may be on the disk from then on), a sync from where
it returned. Next to read: ``cutting.py``.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Event", "events_of", "strace", "trace"]

_CALLS = "openat,write,pwrite64,fdatasync,fsync,ftruncate,unlink,rename"


def strace() -> str:
    """Where strace is, or why there is none: "" if it works."""
    found = shutil.which("strace")
    if found is None:
        return "strace is not installed"
    tried = subprocess.run([found, "-e", "trace=none", "true"], capture_output=True, check=False)
    return "" if tried.returncode == 0 else "strace may not trace here"


@dataclass(frozen=True, slots=True)
class Event:
    """``kind`` is write, sync, truncate, create or unlink; ``at`` an offset, or a length."""

    kind: str
    file: str
    at: int = 0
    data: bytes = b""


def trace(directory: Path, module: str, *arguments: str) -> list[Event]:
    """Run ``python -m module`` under strace; what it did to the files in the directory."""
    log = directory.parent / "strace.log"
    subprocess.run(
        ["strace", "-f", "-y", "-xx", "-s", "100000000", "-e", f"trace={_CALLS}", "-o", str(log),
         sys.executable, "-m", module, *arguments],
        check=True, capture_output=True,
    )  # fmt: skip
    with log.open() as lines:
        found = list(events_of(lines, str(directory)))
    log.unlink()
    return found


_BEGUN = re.compile(r"^(\d+) +(.*) <unfinished \.\.\.>$")
_RESUMED = re.compile(r"^(\d+) +<\.\.\. \w+ resumed>(.*)$")
_WHOLE = re.compile(r"^\d+ +(.*)$")
_FILE_CALL = re.compile(r"^(\w+)\(\d+<((?:\\x[0-9a-f]{2}|[^>])*)>(?:, (.*))?\) += (-?\d+)")
_PATH_CALL = re.compile(r'^(openat|unlink)\((?:[^"]*, )?"((?:\\x[0-9a-f]{2})*)"(.*)\) += (-?\d+)')


def events_of(lines: Iterator[str], directory: str) -> Iterator[Event]:
    """The events of a log."""
    begun: dict[str, str] = {}
    for line in lines:
        line = line.rstrip("\n")
        if match := _BEGUN.match(line):
            pid, call = match.groups()
            begun[pid] = call
            if call.startswith(("write", "pwrite")):
                yield from _event(f"{call}) = 0", directory)
            continue
        if match := _RESUMED.match(line):
            pid, rest = match.groups()
            call = begun.pop(pid)
            if not call.startswith(("write", "pwrite")):
                yield from _event(call + rest, directory)
            continue
        if match := _WHOLE.match(line):
            yield from _event(match.group(1), directory)


def _event(call: str, directory: str) -> Iterator[Event]:
    if match := _FILE_CALL.match(call):
        name, path, rest, result = match.groups()
        file = _name_in(_text(path), directory)
        if not file or int(result) < 0:
            return
        if name in ("fdatasync", "fsync"):
            yield Event("sync", file)
        elif name == "ftruncate":
            yield Event("truncate", file, int(rest))
        elif name == "write":
            yield Event("write", file, -1, _bytes(rest.split('"')[1]))
        elif name == "pwrite64":
            quoted = rest.split('"')
            yield Event("write", file, int(quoted[2].split(",")[2]), _bytes(quoted[1]))
    elif match := _PATH_CALL.match(call):
        name, path, rest, result = match.groups()
        file = _name_in(_text(path), directory)
        if file and int(result) >= 0 and (name == "unlink" or "O_CREAT" in rest):
            yield Event("unlink" if name == "unlink" else "create", file)


def _name_in(path: str, directory: str) -> str:
    parent, _, name = path.rpartition("/")
    return name if parent == directory else ""


def _bytes(escaped: str) -> bytes:
    return bytes.fromhex(escaped.replace("\\x", ""))


def _text(path: str) -> str:
    return _bytes(path).decode() if path.startswith("\\x") else path
