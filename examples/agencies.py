"""Travel agencies: a hotel, an airline, a car rental, each with books of its own. No sagas here.

    with Agency(Path("hotel.db"), "hotel", 300_00, fee=25_00, no_cancelling={"Nuuk"}) as hotel:
        number = hotel.book("key-1", "t-1", "Nuuk")     # "hotel-1", however often it is asked for
        hotel.cancel("key-2", number)                   # raises Refused

    with Desk(hotel) as desk:                           # the same over HTTP
        number = DeskClient(desk.url).book("key-1", "t-1", "Nuuk")

What is asked for again under the same key is in the books once; ``entries.asked`` counts how often
it was: more than once when whoever asked did not live to hear the answer, or the answer was lost.
Next to read: ``travel_booking.py``.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Collection
from pathlib import Path
from typing import Any, Protocol, Self

from local_http import LocalServer, post


class Refused(Exception):
    """The agency will not do this, and asking again does not help."""


class Bookings(Protocol):
    """What an agency does, here or over HTTP. ``OSError``: nobody knows whether it was done."""

    def book(self, key: str, trip: str, city: str) -> str:
        """The number of the booking. Raises ``Refused``."""

    def cancel(self, key: str, number: str) -> int:
        """The fee that the agency keeps, in cents. Raises ``Refused``."""


class Agency:
    """An agency's books: what was booked and cancelled, and what it costs. For any thread.

    It has nothing left in cities that are ``sold_out``, and takes no cancellation where there is
    ``no_cancelling``: these two may be changed by hand at any time.
    """

    def __init__(
        self,
        path: Path,
        name: str,
        cents: int,
        fee: int = 0,
        sold_out: Collection[str] = (),
        no_cancelling: Collection[str] = (),
    ) -> None:
        self.name = name
        self.sold_out = set(sold_out)
        self.no_cancelling = set(no_cancelling)
        self._cents = cents
        self._fee = fee
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, timeout=30, check_same_thread=False)
        self._db.executescript(
            """
            PRAGMA journal_mode = WAL;
            PRAGMA synchronous = FULL;
            CREATE TABLE IF NOT EXISTS entries (
                key TEXT PRIMARY KEY, kind TEXT NOT NULL, number TEXT NOT NULL, trip TEXT NOT NULL,
                city TEXT NOT NULL, cents INTEGER NOT NULL, asked INTEGER NOT NULL DEFAULT 1);
            """
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def book(self, key: str, trip: str, city: str) -> str:
        """The number of the booking. Raises ``Refused``; nothing is booked then."""
        with self._lock, self._db:
            number = self._known(key)
            if number is None:
                if city in self.sold_out:
                    raise Refused(f"no {self.name} to be had in {city}")
                counted = "SELECT COUNT(*) FROM entries WHERE kind = 'booked'"
                (count,) = self._db.execute(counted).fetchone()
                number = f"{self.name}-{count + 1}"
                self._enter(key, "booked", number, trip, city, self._cents)
            return number

    def cancel(self, key: str, number: str) -> int:
        """The fee that is kept, in cents. Raises ``Refused``; nothing is cancelled then."""
        with self._lock, self._db:
            if self._known(key) is None:
                booked = "SELECT trip, city FROM entries WHERE number = ? AND kind = 'booked'"
                trip, city = self._db.execute(booked, (number,)).fetchone() or ("", "")
                if not trip:
                    raise Refused(f"there is no booking {number!r}")
                if city in self.no_cancelling:
                    raise Refused(f"nobody is there in {city} to cancel {number}")
                self._enter(key, "cancelled", number, trip, city, self._fee - self._cents)
            return self._fee

    def _known(self, key: str) -> str | None:
        """The number of the booking that was made, or cancelled, under this key before."""
        asked = "UPDATE entries SET asked = asked + 1 WHERE key = ? RETURNING number"
        (number,) = self._db.execute(asked, (key,)).fetchone() or (None,)
        return number

    def _enter(self, key: str, *entry: str | int) -> None:
        new = "INSERT INTO entries (key, kind, number, trip, city, cents) VALUES (?, ?, ?, ?, ?, ?)"
        self._db.execute(new, (key, *entry))

    def entries(self) -> list[tuple[str, str, str, int]]:
        """Trip, kind, number and cents of each entry, in the order in which they were made."""
        with self._lock:
            listed = "SELECT trip, kind, number, cents FROM entries ORDER BY rowid"
            return self._db.execute(listed).fetchall()


class Desk(LocalServer):
    """An agency over HTTP: ``POST /book`` and ``POST /cancel``; 409 for what it refuses."""

    def __init__(self, agency: Agency) -> None:
        super().__init__()
        self._agency = agency

    def answer(self, path: str, key: str, body: Any) -> tuple[int, dict[str, Any]]:
        try:
            if path == "/book":
                return 200, {"number": self._agency.book(key, body["trip"], body["city"])}
            if path == "/cancel":
                return 200, {"fee": self._agency.cancel(key, body["number"])}
        except Refused as refusal:
            return 409, {"error": str(refusal)}
        raise ValueError("POST /book or /cancel")


class DeskClient:
    """Asks an agency over HTTP."""

    def __init__(self, url: str) -> None:
        self._url = url

    def book(self, key: str, trip: str, city: str) -> str:
        """The number of the booking. Raises ``Refused``, or ``OSError`` if there is no answer."""
        number: str = self._ask("/book", key, trip=trip, city=city)["number"]
        return number

    def cancel(self, key: str, number: str) -> int:
        """The fee that is kept, in cents. Raises as ``book``."""
        fee: int = self._ask("/cancel", key, number=number)["fee"]
        return fee

    def _ask(self, path: str, key: str, **body: str) -> dict[str, Any]:
        status, answer = post(self._url, path, key, body)
        if status == 409:
            raise Refused(answer["error"])
        if status != 200:
            raise ConnectionError(f"the agency answers {status}: {answer['error']}")
        return answer
