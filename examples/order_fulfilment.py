"""Orders, from being placed to being shipped or undone, through a crash in the middle.

    python examples/order_fulfilment.py                  # the whole story, in a temporary directory
    python examples/order_fulfilment.py --store sqlite+aiosqlite:///orders.db    # keeps the files
    python examples/order_fulfilment.py --serve --store …        # the service of the story, alone

A service runs the process manager of ``orders.py`` and the workers of ``shop.py`` (read these
first). It is killed with ``kill -9`` when the carrier has booked a shipment and not yet answered;
a second process goes on over the same SQLite file, and asks the carrier again under the same key.
The shop's own books are beside the store, in a file that ends with ``.shop``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import signal
import subprocess
import sys
import tempfile
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from carrier import Carrier
from orders import OrderFulfilment
from perdure import PerdureError, Runtime
from perdure.testing.clock import SimulatedClock
from shop import QUEUES, CarrierClient, Shop

STOCK = {"lamp": 5, "mirror": 5, "piano": 1, "sofa": 0}

# A service: messages come as lines of JSON, each is answered when all is done that comes of it and
# can be done now. SIGTERM, SIGINT or the end of the input stop it in order: what was accepted is
# finished, the store given up.


def open_shop(url: str) -> Shop:
    file = url.partition(":///")[2].partition("?")[0]
    return Shop(Path(f"{file}.shop") if file else Path(":memory:"), STOCK)


async def serve(url: str, carrier_url: str | None) -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop.set)
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    with closing(open_shop(url)) as shop, Carrier() as own:
        resources = {"shop": shop, "carrier": CarrierClient(carrier_url or own.url)}
        async with Runtime(url, [OrderFulfilment, *QUEUES], resources=resources) as runtime:
            print("ready", flush=True)
            taking = asyncio.create_task(take(runtime, lines))
            taking.add_done_callback(lambda _: stop.set())
            await stop.wait()
            if not taking.cancel():
                taking.result()  # the end of the input, or an error to be seen
    print("stopped", flush=True)


async def take(runtime: Runtime, lines: asyncio.StreamReader) -> None:
    while True:
        try:
            if not (line := await lines.readline()):
                return
            receipts = await runtime.publish(json.loads(line))
            await runtime.settled()
            for receipt in receipts:
                print(f"{receipt.correlation_id}: {receipt.outcome}", flush=True)
        except (ValueError, RecursionError, PerdureError) as error:  # the sender's mistake
            print(f"refused: {error}", flush=True)


# The story


def outside(id_: str, type_: str, order_id: str, **data: Any) -> dict[str, Any]:
    """An event as the outside world sends it. The id is what makes repeating it harmless."""
    return {"id": id_, "type": type_, "data": {"order_id": order_id, **data}}


ORDERS = [
    ("lamp", 40),
    ("sofa", 500),  # out of stock
    ("lamp", 4000),  # more than the card is good for
    ("piano", 900),  # not carried
    ("mirror", 60),  # carried when the carrier is less busy
    ("lamp", 41),  # never picked
    ("lamp", 42),  # cancelled by the customer
]
BEFORE = [
    outside(f"m-{number}", "OrderPlaced", f"o-{number}", item=item, amount=amount)
    for number, (item, amount) in enumerate(ORDERS, 1)
]
LAST = outside("m-8", "ItemPicked", "o-1")


def first_process(url: str, carrier_url: str, services: list[subprocess.Popen[str]]) -> None:
    """Runs the service. It is killed by the carrier, when that has booked a shipment."""
    command = [sys.executable, __file__, "--serve", "--store", url, "--carrier", carrier_url]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as service:
        assert service.stdin is not None
        assert service.stdout is not None
        if service.stdout.readline() != "ready\n":
            sys.exit("the service did not start")
        services.append(service)
        for event in [*BEFORE, LAST]:
            print(json.dumps(event), file=service.stdin, flush=True)
            answer = service.stdout.readline() or f"killed, exit code {service.wait()}\n"
            print(f"  {event['id']} {event['type']:12} {answer}", end="")
        service.kill()  # if it lives still: the story is told anew over an old store


async def second_process(url: str, carrier: Carrier, shop: Shop) -> None:
    """Goes on over the same store. Its clock is simulated, so that days pass at once."""
    clock = SimulatedClock(datetime.now(UTC))
    resources = {"shop": shop, "carrier": CarrierClient(carrier.url)}
    async with Runtime(
        url, [OrderFulfilment, *QUEUES], resources=resources, clock=clock
    ) as runtime:

        async def send(id_: str, type_: str, order_id: str) -> None:
            for receipt in await runtime.publish(outside(id_, type_, order_id)):
                known = ", known: nothing happened" if receipt.duplicate else ""
                print(f"  {id_} {type_} {order_id}: {receipt.outcome}{known}")

        async def show() -> None:
            async for order in runtime.instances(OrderFulfilment):
                why = f" ({order.failure})" if order.failure else ""
                print(f"  {order.correlation_id} {order.status}, {order.state.status}{why}")

        print("\nThe second process takes up what the first one had begun:")
        await runtime.settled()
        print(f"  asked {carrier.asked.total()} times, the carrier booked {len(carrier.booked)}")
        await show()
        print("\nThe message without an answer is sent again, and one that comes too late:")
        await send("m-8", "ItemPicked", "o-1")
        await send("m-9", "OrderCancelled", "o-1")
        print("\nMessages for orders that are not in memory wake them:")
        before = runtime.residents
        await send("m-10", "ItemPicked", "o-4")
        await send("m-11", "ItemPicked", "o-5")
        await send("m-12", "OrderCancelled", "o-7")
        print(f"  in memory: {before}, then {runtime.residents}")
        print("\nA minute later the carrier has taken one of the two, and the other is undone:")
        await clock.advance(timedelta(minutes=1))
        await show()
        print("\nFifteen days later:")
        await clock.advance(timedelta(days=15))
        await show()
        print("\nThe history of o-4, of both processes:")
        async for turn in runtime.history(runtime.ref(OrderFulfilment, "o-4")):
            sent = "".join(f", sent {command.type}" for command in turn.sent)
            print(f"  {turn.sequence_nr} {turn.type}: {turn.outcome}{sent}")
        print("\nCommands that failed for good:")
        async for letter in runtime.dead_letters.list():
            order_id, attempts = letter.correlation_id, f"{letter.attempts} attempts"
            print(f"  {order_id} {letter.type}: {letter.reason}, {attempts}")


def print_books(shop: Shop, carrier: Carrier) -> None:
    print("\nThe shop's own books, and the carrier's:")
    paid: dict[str, list[str]] = {}
    for order_id, amount in shop.rows("SELECT order_id, amount FROM payments ORDER BY rowid"):
        paid.setdefault(str(order_id), []).append(f"{amount:+}")
    for order_id, amounts in sorted(paid.items()):
        print(f"  {order_id} paid {' '.join(amounts)}")
    for order_id, note in shop.rows("SELECT order_id, note FROM notes ORDER BY rowid"):
        print(f"  {order_id} {note}")
    for key, order_id in carrier.booked.items():
        print(f"  {order_id} shipped once, the carrier was asked {carrier.asked[key]} times")
    stock = (f"{item} {pieces}" for item, pieces in shop.rows("SELECT * FROM stock"))
    print(f"  in stock: {', '.join(stock)}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Orders, through a crash in the middle.")
    parser.add_argument("--store", metavar="URL", help="default: a file in a temporary directory")
    parser.add_argument("--serve", action="store_true", help="only run the service, on stdin")
    parser.add_argument("--carrier", metavar="URL", help="of a carrier (default: one of its own)")
    options = parser.parse_args()
    if options.store == "memory://" and not options.serve:
        parser.error("memory does not outlive a process; name a file")
    logging.basicConfig(level=logging.CRITICAL)  # what fails here is told by the story itself
    with tempfile.TemporaryDirectory() as directory:
        url = options.store or f"sqlite+aiosqlite:///{directory}/orders.db"
        if options.serve:
            asyncio.run(serve(url, options.carrier))
        else:
            tell(url)


def tell(url: str) -> None:
    services: list[subprocess.Popen[str]] = []

    def kill(order_id: str) -> None:
        while services:  # only the first time
            service = services.pop()
            service.kill()  # SIGKILL: it can neither catch it nor tidy up
            service.wait()

    with Carrier(refuses={"piano"}, busy={"mirror": 2}, on_booked=kill) as carrier:
        print(f"First process, over {url}:")
        first_process(url, carrier.url, services)
        with closing(open_shop(url)) as shop:
            asyncio.run(second_process(url, carrier, shop))
            print_books(shop, carrier)


if __name__ == "__main__":
    main()
