"""An order, from being placed to being shipped, through a crash in the middle.

    python examples/order_fulfilment.py                  # the whole story, in a temporary directory
    python examples/order_fulfilment.py --store sqlite+aiosqlite:///orders.db    # keeps the file
    python examples/order_fulfilment.py --serve --store …        # the service of the story, alone

A service runs the process manager of ``orders.py`` (read that first), is killed with ``kill -9``
in the middle of its work, and a second process goes on over the same SQLite file.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import subprocess
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from typing import Any

from orders import OrderFulfilment
from perdure import PerdureError, Runtime
from perdure.testing.clock import SimulatedClock

# A service: messages come as lines of JSON, each is answered after its commit. SIGTERM, SIGINT
# or the end of the input stop it in order: what was accepted is finished, the store given up.


async def serve(url: str) -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop.set)
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    async with Runtime(url, [OrderFulfilment]) as runtime:
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
            for receipt in await runtime.publish(json.loads(line)):
                print(f"{receipt.correlation_id}: {receipt.outcome}", flush=True)
        except (ValueError, RecursionError, PerdureError) as error:  # the sender's mistake
            print(f"refused: {error}", flush=True)


# The story


def outside(id_: str, type_: str, order_id: str, **data: Any) -> dict[str, Any]:
    """An event as the outside world sends it. The id is what makes repeating it harmless."""
    return {"id": id_, "type": type_, "data": {"order_id": order_id, **data}}


BEFORE = [
    *(outside(f"m-{n}", "OrderPlaced", f"o-{n}", amount=100 * n) for n in (1, 2, 3, 4)),
    outside("m-5", "PaymentReceived", "o-1"),
    outside("m-6", "PaymentReceived", "o-2"),
    outside("m-7", "InventoryReserved", "o-1"),
]
LAST = outside("m-8", "PaymentReceived", "o-3")


def first_process(url: str) -> None:
    """Runs the service, and kills it while it is at work on a message."""
    command = [sys.executable, __file__, "--serve", "--store", url]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as service:
        assert service.stdin is not None
        assert service.stdout is not None
        if service.stdout.readline() != "ready\n":
            sys.exit("the service did not start")
        for event in BEFORE:
            print(json.dumps(event), file=service.stdin, flush=True)
            print(f"  {event['id']} {event['type']:18} {service.stdout.readline()}", end="")
        print(json.dumps(LAST), file=service.stdin, flush=True)
        service.kill()  # SIGKILL: it can neither catch it nor tidy up
        print(f"  {LAST['id']} {LAST['type']:18} no answer: killed, exit code {service.wait()}")


async def second_process(url: str) -> None:
    """Goes on over the same store. Its clock is simulated, so that days pass at once."""
    clock = SimulatedClock(datetime.now(UTC))
    async with Runtime(url, [OrderFulfilment], clock=clock) as runtime:

        async def send(id_: str, type_: str, order_id: str) -> None:
            for receipt in await runtime.publish(outside(id_, type_, order_id)):
                known = ", known: nothing happened" if receipt.duplicate else ""
                print(f"  {id_} {type_} {order_id}: {receipt.outcome}{known}")

        async def show() -> None:
            async for order in runtime.instances(OrderFulfilment):
                why = f" ({order.failure})" if order.failure else ""
                print(f"  {order.correlation_id} {order.status}, {order.state.status}{why}")

        print("\nThe message without an answer is sent again under its id; it counts once:")
        await runtime.publish(LAST)
        await show()
        print("\nA message repeated, and one under a new id that the order's status forbids:")
        await send("m-6", "PaymentReceived", "o-2")
        await send("m-9", "PaymentReceived", "o-2")
        print("\nMessages for orders that are not in memory wake them:")
        before = runtime.residents
        await send("m-10", "ItemShipped", "o-1")
        print(f"  in memory: {before}, then {runtime.residents}")
        print(
            "\nFive hours later the warehouse has been asked; one order goes on, one is cancelled:"
        )
        await clock.advance(timedelta(hours=5))
        await send("m-11", "InventoryReserved", "o-2")
        await send("m-12", "ItemShipped", "o-2")
        await send("m-13", "OrderCancelled", "o-3")
        print("\nFifteen days later:")
        await clock.advance(timedelta(days=15))
        await show()
        print("\nThe history of o-2, of both processes:")
        async for turn in runtime.history(runtime.ref(OrderFulfilment, "o-2")):
            sent = "".join(f", sent {command.type}" for command in turn.sent)
            print(f"  {turn.sequence_nr} {turn.type}: {turn.outcome}{sent}")


def main() -> None:
    parser = argparse.ArgumentParser(description="An order, through a crash in the middle.")
    parser.add_argument("--store", metavar="URL", help="default: a file in a temporary directory")
    parser.add_argument("--serve", action="store_true", help="only run the service, on stdin")
    options = parser.parse_args()
    if options.store == "memory://" and not options.serve:
        parser.error("memory does not outlive a process; name a file")
    with tempfile.TemporaryDirectory() as directory:
        url = options.store or f"sqlite+aiosqlite:///{directory}/orders.db"
        if options.serve:
            asyncio.run(serve(url))
            return
        print(f"First process, over {url}:")
        first_process(url)
        asyncio.run(second_process(url))


if __name__ == "__main__":
    main()
