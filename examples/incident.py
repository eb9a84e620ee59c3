"""An incident, start to end, with the command line alone: found, understood, mended, proven.

    python examples/incident.py

A bug makes 50 of 60 orders fail: nobody thought of francs. The operator sees that something is
wrong, finds the orders, sees why, deploys the fix, has the payments handled again, and shows who
did it and why. ``$`` are the commands as they are typed; what follows is what they print.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

SERVICE = """\
from dataclasses import dataclass, replace

from perdure import ProcessManager, Runtime, applies, message, starts, stops

EUROS = {"EUR": 1.0, "USD": 0.92}


@message(name="shop.OrderPlaced")
class OrderPlaced:
    order_id: str
    amount: float
    currency: str


@message(name="shop.PaymentReceived")
class PaymentReceived:
    order_id: str


@message(name="shop.OrderBooked")
class OrderBooked:
    euros: float


@dataclass(frozen=True)
class OrderState:
    amount: float = 0.0
    currency: str = ""
    euros: float = 0.0


class Order(ProcessManager[OrderState]):
    name = "Order"

    @starts(OrderPlaced, by="order_id")
    def placed(self, state, event, do): ...

    @stops(PaymentReceived, by="order_id")
    def paid(self, state, event, do):
        do.record(OrderBooked(round(state.amount * EUROS[state.currency], 2)))

    @applies(OrderPlaced)
    def is_placed(self, state, event):
        return replace(state, amount=event.amount, currency=event.currency)

    @applies(OrderBooked)
    def is_booked(self, state, event):
        return replace(state, euros=event.euros)


def runtime():
    return Runtime("sqlite+aiosqlite:///orders.db", [Order])
"""

FIXED = SERVICE.replace('"USD": 0.92', '"USD": 0.92, "CHF": 1.07')

ORDERS = [(f"o-{n}", 10.0 * n, "EUR" if n % 6 == 0 else "CHF") for n in range(1, 61)]


class Operator:
    """Types commands in a directory, and shows what they print."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._environment = {
            **os.environ,
            "PERDURE_STORE": "orders.db",
            "PERDURE_BY": "ann",
            "NO_COLOR": "1",
        }

    def types(self, *words: str, exits: int = 0) -> str:
        """One command; its output, which is shown, too."""
        shown = " ".join(f'"{word}"' if " " in word else word for word in words)
        print(f"$ perdure {shown}", flush=True)
        done = subprocess.run(
            [sys.executable, "-m", "perdure.ops.cli", *words],
            cwd=self._directory,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )
        print(done.stdout + done.stderr, flush=True)
        if done.returncode != exits:
            raise SystemExit(f"it exited with {done.returncode}, not {exits}")
        return done.stdout

    def deploys(self, service: str) -> subprocess.Popen[str]:
        """Start the service as it is now, and wait until it is up."""
        (self._directory / "shop.py").write_text(service)
        print("$ perdure run shop:runtime &", flush=True)
        running = subprocess.Popen(
            [sys.executable, "-m", "perdure.ops.cli", "run", "shop:runtime"],
            cwd=self._directory,
            env=self._environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert running.stderr is not None
        for line in running.stderr:
            if "running over" in line:
                print(flush=True)
                return running
        raise SystemExit("the service did not start")


def stop(running: subprocess.Popen[str]) -> None:
    """Stop the service in order."""
    print("$ kill %1\n", flush=True)
    running.send_signal(signal.SIGTERM)
    running.communicate(timeout=30)
    if running.returncode != 0:
        raise SystemExit(f"the service exited with {running.returncode}")


def write_events(directory: Path) -> None:
    """What the shop and the bank have sent."""
    placed: list[dict[str, Any]] = [
        {"order_id": id, "amount": amount, "currency": currency} for id, amount, currency in ORDERS
    ]
    paid: list[dict[str, Any]] = [{"order_id": id} for id, _, _ in ORDERS]
    for name, kind, events in [
        ("placed.jsonl", "shop.OrderPlaced", placed),
        ("paid.jsonl", "shop.PaymentReceived", paid),
    ]:
        lines = [json.dumps({"type": kind, "data": data}) for data in events]
        (directory / name).write_text("\n".join(lines) + "\n")


def incident(directory: Path) -> None:
    """All of it."""
    operator = Operator(directory)
    write_events(directory)
    running = operator.deploys(SERVICE)
    try:
        operator.types("publish", "--file", "placed.jsonl")
        operator.types("publish", "--file", "paid.jsonl", exits=1)

        print("# Something is wrong. What?\n")
        operator.types("health", exits=6)
        operator.types("instances", "count")
        operator.types("dead", "list", "--limit", "3")
        print("# Why does this one wait?\n")
        operator.types("instances", "why", "Order/o-1")
        operator.types("dead", "show", "1")
    finally:
        stop(running)

    print("# Nobody thought of francs. The fix is deployed: a line with their rate.\n")
    running = operator.deploys(FIXED)
    try:
        why = "bug 4711: the rate of CHF was missing"
        operator.types("dead", "redrive", "1", "--why", why, "--dry-run")
        operator.types("dead", "redrive", "--type", "shop.PaymentReceived", "--why", why, "--yes")
        operator.types("instances", "count")
        print("# Who has done what to it, and why?\n")
        operator.types("instances", "history", "Order/o-1")
        operator.types("health")
    finally:
        stop(running)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        incident(Path(made))
