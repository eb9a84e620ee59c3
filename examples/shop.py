"""The workers of an order: what is really done, in the shop's own database and by HTTP.

Each carries the key of its command along, so that what is asked for twice is done once: a worker
may have done its work and not lived to tell. Tests call workers as the plain functions they are.
Next to read: ``order_fulfilment.py``.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Mapping
from pathlib import Path

from local_http import post
from orders import (
    AskWarehouse,
    InventoryReleased,
    InventoryReserved,
    ItemShipped,
    OrderFulfilled,
    PaymentDeclined,
    PaymentReceived,
    PaymentRefunded,
    ProcessPayment,
    RefundPayment,
    ReleaseInventory,
    ReserveInventory,
    ShipItem,
)
from perdure import Exponential, Job, WorkQueue
from perdure.errors import NonRetryable

CARD_LIMIT = 1_000
"""A card is not good for more."""

# What workers are given


class OutOfStock(Exception):
    """There is nothing left, and asking again does not help."""


class Shop:
    """The shop's books, each row under the key it was asked for with. For any thread."""

    def __init__(self, path: Path, stock: Mapping[str, int] | None = None) -> None:
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, timeout=30, check_same_thread=False)
        self._db.executescript(
            """
            PRAGMA journal_mode = WAL;
            PRAGMA synchronous = FULL;
            CREATE TABLE IF NOT EXISTS payments (key TEXT PRIMARY KEY, order_id TEXT, amount INT);
            CREATE TABLE IF NOT EXISTS stock (item TEXT PRIMARY KEY, pieces INT NOT NULL);
            CREATE TABLE IF NOT EXISTS moves (
                key TEXT PRIMARY KEY, order_id TEXT, item TEXT, pieces INT);
            CREATE TABLE IF NOT EXISTS notes (key TEXT PRIMARY KEY, order_id TEXT, note TEXT);
            """
        )
        with self._db:
            new = "INSERT INTO stock VALUES (?, ?) ON CONFLICT DO NOTHING"
            self._db.executemany(new, (stock or {}).items())

    def pay(self, key: str, order_id: str, amount: int) -> None:
        """Take an amount from the customer; less than zero gives it back."""
        self._insert("payments", key, order_id, amount)

    def move(self, key: str, order_id: str, item: str, pieces: int) -> None:
        """Take pieces out of stock, if less than zero; otherwise put them back.

        Raises ``OutOfStock``; nothing is moved then.
        """
        with self._lock, self._db:
            new = "INSERT INTO moves VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING"
            if self._db.execute(new, (key, order_id, item, pieces)).rowcount:
                taken = "UPDATE stock SET pieces = pieces + ? WHERE item = ? AND pieces + ? >= 0"
                if not self._db.execute(taken, (pieces, item, pieces)).rowcount:
                    raise OutOfStock(f"no {item} left")

    def note(self, key: str, order_id: str, note: str) -> None:
        """Write something down for the people."""
        self._insert("notes", key, order_id, note)

    def _insert(self, table: str, *row: str | int) -> None:
        with self._lock, self._db:
            self._db.execute(f"INSERT INTO {table} VALUES (?, ?, ?) ON CONFLICT DO NOTHING", row)

    def rows(self, query: str) -> list[tuple[str | int, ...]]:
        """For looking."""
        with self._lock:
            return self._db.execute(query).fetchall()

    def close(self) -> None:
        """Give up the file."""
        self._db.close()


class CarrierClient:
    """Books shipments at a carrier (see ``carrier.py``)."""

    def __init__(self, url: str) -> None:
        self._url = url

    def ship(self, key: str, order_id: str, item: str) -> str:
        """The tracking number. Raises ``OSError`` if the carrier cannot be had now."""
        status, answer = post(self._url, "/shipments", key, {"order_id": order_id, "item": item})
        if status == 503:
            raise ConnectionError(f"the carrier has {answer['error']}")
        if status != 200:
            raise NonRetryable(f"the carrier answers {status}: {answer['error']}")
        tracking: str = answer["tracking"]
        return tracking


# Queues and workers. What the shop does in its own database is repeated until it is done; the
# carrier gets four attempts, one, two and four seconds apart.

FOR_EVER = Exponential(0.5, max_s=60, max_attempts=None)

payments = WorkQueue("payments", retry=FOR_EVER)
warehouse = WorkQueue("warehouse", retry=FOR_EVER, non_retryable=(OutOfStock,))
shipping = WorkQueue("shipping", retry=Exponential(1, max_attempts=4), concurrency=4, lease_s=30)
audit = WorkQueue("audit", retry=FOR_EVER)
QUEUES = [payments, warehouse, shipping, audit]


@payments.worker
def charge(command: ProcessPayment, job: Job, shop: Shop) -> PaymentReceived | PaymentDeclined:
    if command.amount > CARD_LIMIT:
        return PaymentDeclined(command.order_id, "the card was declined")
    shop.pay(job.key, command.order_id, command.amount)
    return PaymentReceived(command.order_id)


@payments.worker
def refund(command: RefundPayment, job: Job, shop: Shop) -> PaymentRefunded:
    shop.pay(job.key, command.order_id, -command.amount)
    return PaymentRefunded(command.order_id)


@warehouse.worker
def reserve(command: ReserveInventory, job: Job, shop: Shop) -> InventoryReserved:
    shop.move(job.key, command.order_id, command.item, -1)
    return InventoryReserved(command.order_id)


@warehouse.worker
def release(command: ReleaseInventory, job: Job, shop: Shop) -> InventoryReleased:
    shop.move(job.key, command.order_id, command.item, 1)
    return InventoryReleased(command.order_id)


@warehouse.worker
def ask(command: AskWarehouse, job: Job, shop: Shop) -> None:
    shop.note(job.key, command.order_id, "please pick it")


@shipping.worker
def ship(command: ShipItem, job: Job, carrier: CarrierClient) -> ItemShipped:
    return ItemShipped(command.order_id, carrier.ship(job.key, command.order_id, command.item))


@audit.subscriber
def sold(event: OrderFulfilled, job: Job, shop: Shop) -> None:
    shop.note(job.key, event.order_id, f"sold for {event.amount}")
