"""Orders in four steps, validate, take the money, take the goods, confirm, and what undoes each.

    python examples/order_processing.py                     # in a temporary directory
    python examples/order_processing.py --directory orders  # keeps orders.db and its books

One order runs through. For the second one the stock does not do: the money goes back. The third one
has no pieces: nothing was taken. Of each it prints the end and how its steps stand, and then the
shop's own books, which know nothing of sagas.

The customer shall be told of a failure whichever step it is that fails, and not before all is
undone. So telling is not what compensates the confirmation: one that was never sent is not undone,
and one that was sent is the pivot, behind which there is no way back. It compensates a step before
the four, which opens the order, for what was done first is undone last.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import tempfile
from contextlib import closing
from pathlib import Path

from perdure import Exponential, Job, NonRetryable, OrderedSaga, Runtime, message
from perdure.errors import SagaFailed
from shop import OutOfStock, Shop


@message
class Purchase:
    """What an order begins with."""

    order_id: str
    item: str
    pieces: int
    amount: int


# The saga. The shop's own books are written until that is done; only what they refuse is final.

AGAIN = Exponential(0.1, max_s=10, max_attempts=None)

processing = OrderedSaga("order-processing", Purchase, by="order_id")


@processing.step(retry=AGAIN)
def open_order(order: Purchase, job: Job, shop: Shop) -> None:
    shop.note(job.key, order.order_id, "opened")


@processing.compensates(open_order, retry=AGAIN)
def send_failure_notice(order: Purchase, job: Job, shop: Shop) -> None:
    shop.note(job.key, order.order_id, "we are sorry, it has come to nothing")


@processing.step(nothing_to_undo=True)
def validate_order(order: Purchase) -> None:
    if order.pieces < 1 or order.amount < 1:
        raise NonRetryable(f"{order.pieces} pieces for {order.amount}")


@processing.step(retry=AGAIN)
def process_payment(order: Purchase, job: Job, shop: Shop) -> None:
    shop.pay(job.key, order.order_id, order.amount)


@processing.compensates(process_payment, retry=AGAIN)
def refund_payment(order: Purchase, job: Job, shop: Shop) -> None:
    shop.pay(job.key, order.order_id, -order.amount)


@processing.step(retry=AGAIN, non_retryable=(OutOfStock,))
def update_inventory(order: Purchase, job: Job, shop: Shop) -> None:
    shop.move(job.key, order.order_id, order.item, -order.pieces)


@processing.compensates(update_inventory, retry=AGAIN)
def revert_inventory(order: Purchase, job: Job, shop: Shop) -> None:
    shop.move(job.key, order.order_id, order.item, order.pieces)


@processing.step(retry=AGAIN, pivot=True)
def send_confirmation(order: Purchase, job: Job, shop: Shop) -> None:
    shop.note(job.key, order.order_id, f"yours: {order.item}, {order.pieces} pieces")


# The story

STOCK = {"lamp": 2}

ORDERS = [
    Purchase("o-1", "lamp", 2, 80),
    Purchase("o-2", "lamp", 1, 40),
    Purchase("o-3", "lamp", 0, 0),
]


async def story(directory: Path) -> None:
    url = f"sqlite+aiosqlite:///{directory / 'orders.db'}"
    with closing(Shop(directory / "shop.db", STOCK)) as shop:
        async with Runtime(url, [processing], resources={"shop": shop}) as runtime:
            for order in ORDERS:
                await runtime.publish(order, message_id=f"{order.order_id}/placed")
                await print_end(runtime, order)
        print_books(shop)


async def print_end(runtime: Runtime, order: Purchase) -> None:
    """Wait for the end of an order, and say how it was."""
    ref = runtime.ref(processing, order.order_id)
    try:
        await runtime.result(ref)
        print(f"{order.order_id} completed")
    except SagaFailed as failed:
        print(f"{order.order_id} failed: {failed.problem}")
    seen = await runtime.state(ref)
    assert seen is not None
    print(f"    {', '.join(f'{name} {status}' for name, status in seen.state.steps.items())}")


def print_books(shop: Shop) -> None:
    print("The shop's own books:")
    for order_id, amount in shop.rows("SELECT order_id, amount FROM payments ORDER BY rowid"):
        print(f"    {order_id} paid {amount:+}")
    for order_id, note in shop.rows("SELECT order_id, note FROM notes ORDER BY rowid"):
        print(f"    {order_id} {note}")
    for item, pieces in shop.rows("SELECT item, pieces FROM stock"):
        print(f"    {item}: {pieces} in stock")


def main() -> None:
    parser = argparse.ArgumentParser(description="Orders, in steps.")
    parser.add_argument("--directory", type=Path, help="for the files (default: a temporary one)")
    options = parser.parse_args()
    logging.basicConfig(level=logging.CRITICAL)  # what fails here is told by the story itself
    with tempfile.TemporaryDirectory() as temporary:
        directory = options.directory or Path(temporary)
        directory.mkdir(parents=True, exist_ok=True)
        asyncio.run(story(directory))


if __name__ == "__main__":
    main()
