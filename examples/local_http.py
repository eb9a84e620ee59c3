"""A small HTTP server on this machine, for those in the examples who belong to somebody else.

    with Carrier() as carrier:      # a LocalServer
        status, answer = post(carrier.url, "/shipments", "key-1", {"order_id": "o-1"})

It takes POST requests with a JSON object and an ``Idempotency-Key``, and answers with JSON. Who it
is says ``answer``. Next to read: ``carrier.py``, ``agencies.py``.
"""

from __future__ import annotations

import json
import threading
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import urlsplit

BODY_BYTES_MAX = 10_000


def post(url: str, path: str, key: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """The status and the body of the answer. Raises ``OSError`` if there is none."""
    connection = HTTPConnection(urlsplit(url).netloc, timeout=10)
    try:
        connection.request("POST", path, json.dumps(body), {"Idempotency-Key": key})
        response = connection.getresponse()
        answer: dict[str, Any] = json.loads(response.read())
    finally:
        connection.close()
    return response.status, answer


class LocalServer(ThreadingHTTPServer):
    """On a free port of 127.0.0.1, served by threads as long as it is entered."""

    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Requests)
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

    def answer(self, path: str, key: str, body: Any) -> tuple[int, dict[str, Any]]:
        """The status and the body of the answer to a request. From any thread.

        ``ValueError``, ``TypeError`` and ``KeyError`` become a 400.
        """
        raise NotImplementedError


class _Requests(BaseHTTPRequestHandler):
    server: LocalServer

    def do_POST(self) -> None:
        try:
            body = json.loads(self.rfile.read(min(self._length(), BODY_BYTES_MAX)))
            key = self.headers["Idempotency-Key"] or ""
            if not key:
                raise ValueError(f"POST {self.path} with an Idempotency-Key")
            status, answer = self.server.answer(self.path, key, body)
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
