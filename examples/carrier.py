"""A carrier with an HTTP interface: the part of the story that belongs to somebody else.

    with Carrier() as carrier:
        print(carrier.url)          # http://127.0.0.1:…, on a free port, served by threads

``POST /shipments`` with ``{"order_id": …, "item": …}`` and an ``Idempotency-Key`` books a shipment,
once for a key, and answers with its tracking number. For items it ``refuses`` the answer is 503,
always; for those it is ``busy`` with, so many times. Next to read: ``shop.py``, which calls it.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from typing import Any

from local_http import LocalServer


class Carrier(LocalServer):
    """``booked`` are the orders by their key, ``asked`` how often each key was heard of.

    ``on_booked`` is called with the order when it is booked, and nobody has been answered yet.
    """

    def __init__(
        self,
        refuses: Collection[str] = (),
        busy: Mapping[str, int] | None = None,
        on_booked: Callable[[str], None] = lambda order_id: None,
    ) -> None:
        super().__init__()
        self.booked: dict[str, str] = {}
        self.asked: Counter[str] = Counter()
        self._refuses = refuses
        self._busy = busy or {}
        self._on_booked = on_booked
        self._lock = threading.Lock()

    def answer(self, path: str, key: str, body: Any) -> tuple[int, dict[str, Any]]:
        if path != "/shipments":
            raise ValueError("POST /shipments")
        return self.book(key, str(body["order_id"]), str(body["item"]))

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
