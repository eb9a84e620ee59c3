"""A carrier with an HTTP interface: the part of the story that belongs to somebody else.

    with Carrier() as carrier:
        print(carrier.url)          # http://127.0.0.1:…, on a free port, served by threads

``POST /shipments`` with ``{"order_id": …, "item": …}`` and an ``Idempotency-Key`` books a shipment,
once for a key, and answers with its tracking number. For items it ``refuses`` the answer is 503,
always; for those it is ``busy`` with, so many times. Next to read: ``shop.py``, which calls it.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

BODY_BYTES_MAX = 10_000


class Carrier(ThreadingHTTPServer):
    """``booked`` are the orders by their key, ``asked`` how often each key was heard of.

    ``on_booked`` is called with the order when it is booked, and nobody has been answered yet.
    """

    def __init__(
        self,
        refuses: Collection[str] = (),
        busy: Mapping[str, int] | None = None,
        on_booked: Callable[[str], None] = lambda order_id: None,
    ) -> None:
        super().__init__(("127.0.0.1", 0), _Requests)
        self.booked: dict[str, str] = {}
        self.asked: Counter[str] = Counter()
        self._refuses = refuses
        self._busy = busy or {}
        self._on_booked = on_booked
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def book(self, key: str, order_id: str, item: str) -> tuple[int, dict[str, Any]]:
        """The status and the body of the answer."""
        with self._lock:
            self.asked[key] += 1
            if key not in self.booked:
                if item in self._refuses or self.asked[key] <= self._busy.get(item, 0):
                    return 503, {"error": f"no room for a {item}"}
                self.booked[key] = order_id
                self._on_booked(order_id)
            return 200, {"tracking": f"T-{list(self.booked).index(key) + 1}"}


class _Requests(BaseHTTPRequestHandler):
    server: Carrier

    def do_POST(self) -> None:
        try:
            asked = json.loads(self.rfile.read(min(self._length(), BODY_BYTES_MAX)))
            key = self.headers["Idempotency-Key"] or ""
            if self.path != "/shipments" or not key:
                raise ValueError("POST /shipments with an Idempotency-Key")
            status, answer = self.server.book(key, str(asked["order_id"]), str(asked["item"]))
        except (ValueError, TypeError, KeyError) as error:
            status, answer = 400, {"error": str(error)}
        self._answer(status, json.dumps(answer).encode())

    def _length(self) -> int:
        return int(self.headers["Content-Length"] or 0)

    def _answer(self, status: int, body: bytes) -> None:
        try:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except ConnectionError:
            pass  # whoever asked is not there any more

    def log_message(self, *_: object) -> None:
        """Say nothing of each request."""
