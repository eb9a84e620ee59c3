"""The control socket: how operators reach a runtime that holds its store, from beside it.

A runtime over a SQLite file listens on a unix domain socket, which it names in its lock file.
Only its own user, and root, may ask. Requests are lines of JSON.

    async with await Control.over("orders.db") as control:
        print(await control.ask("ping"))

``place.py``: where the socket is. ``lines.py``: what is said on it. ``server.py``, ``requests.py``:
who answers. ``client.py``: who asks. Next to read: ``server.py``.
"""

from perdure.ops.control.client import Control, NoAnswer
from perdure.ops.control.lines import Refused
from perdure.ops.control.requests import REQUESTS, no_end, perform
from perdure.ops.control.server import ControlSocket

__all__ = ["REQUESTS", "Control", "ControlSocket", "NoAnswer", "Refused", "no_end", "perform"]
