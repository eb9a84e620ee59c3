"""The outside world: what clients tried and were answered, and what workers did, in one order.

    python -S tests/survival/ledger.py SOCKET FILE

A process of its own that must not know perdure. Whoever lives connects to the socket and sends
lines, each a JSON array; each complete line is appended to the file in one write, with
``["begin"]`` and ``["end"]`` around every connection. What was sent by a process that is killed a
moment later is still here: the system has it.

    ["try", id, kind, target, number]       a client is about to send
    ["ack", id, outcome, sequence_nr, reply, repeated]
    ["refused", id, error]                  certainly not applied
    ["unknown", id, error]                  perhaps
    ["effect", key, what, life]             a worker has done this; life: which of several
    ["died", point]                         a process is killed there, a moment later
    ["stopped", seconds]                    a graceful stop, and how long it took

Next to read: ``life.py``, who writes; ``checks.py``, who reads.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from typing import Any, Protocol


def serve(address: str, path: str) -> None:
    """Take one connection after another; tell each one's end on standard output."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.bind(address)
    server.listen()
    print("ready", flush=True)
    while True:
        life, _ = server.accept()
        os.write(file, b'["begin"]\n')
        rest = b""
        while received := life.recv(65_536):
            *lines, rest = (rest + received).split(b"\n")
            for line in lines:
                os.write(file, line + b"\n")
        os.write(file, b'["end"]\n')
        life.close()
        print("end", flush=True)


class Says(Protocol):
    """Who tells the outside world."""

    def say(self, *line: Any) -> None:
        """The outside world knows when this returns, whatever happens to the process."""


class Shared:
    """The ledger of several processes at a time: each appends to the file itself.

    One write appends a line, whole, behind all that others have written: what a process is told to
    have happened before is above it. It outlives the process that wrote it, not the machine.
    """

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._life = [os.getpid()]

    def say(self, *line: Any) -> None:
        """See ``Says``; an effect is that of this process."""
        life = self._life if line[0] == "effect" else []
        os.write(self._file, json.dumps([*line, *life]).encode() + b"\n")


class Outside:
    """The way to the ledger from a process that lives."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.connect(address)

    def say(self, *line: Any) -> None:
        self._socket.sendall(json.dumps(line).encode() + b"\n")

    def close(self) -> None:
        """In this process; one that was forked goes on."""
        self._socket.close()


if __name__ == "__main__":
    assert not any(name.startswith("perdure") for name in sys.modules)
    serve(sys.argv[1], sys.argv[2])
