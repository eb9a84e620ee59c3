"""Orders over HTTP: a FastAPI service with a runtime in it, over a SQLite file or PostgreSQL.

    pip install 'perdure[service,prometheus]' fastapi uvicorn
    pip install 'perdure[cli,postgres]'               # for PostgreSQL

    python examples/order_service.py --port 8000
    PERDURE_STORE=sqlite+aiosqlite:////var/lib/shop/orders.db python examples/order_service.py

    export PERDURE_STORE=postgresql+asyncpg://shop:secret@localhost/shop
    perdure db upgrade && python examples/order_service.py --port 8000 &
    python examples/order_service.py --port 8001      # a second pod: ask either, for any order

    curl -X POST localhost:8000/orders -H 'Idempotency-Key: cart-7' \
         -H 'content-type: application/json' -d '{"customer": "ada", "item": "lamp", "amount": 40}'

    POST   /orders                an order is placed (Idempotency-Key: once, however often it comes)
    GET    /orders                ?customer=ada&status=running, and &after=… for the next page
    GET    /orders/{id}           where it stands
    POST   /orders/{id}/payment   its payment has arrived (Idempotency-Key)
    DELETE /orders/{id}           it is cancelled, if it is not paid yet
    GET    /orders/{id}/history   its turns
    /health, /health/live, /health/ready, /metrics

What is answered with a success is in the store: it survives ``kill -9``. On SIGTERM the server
finishes the requests it has, the runtime what it has accepted, and the process ends with 0. Over a
file there is one process; over PostgreSQL any number, and the others go on with the orders of one
that ends: ``/health/ready`` says which shards of the orders are whose.
Items and refunds are samples: pianos are out of stock, and the bank refunds no more than 1000.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Annotated, Any
from uuid import NAMESPACE_URL, uuid5

try:
    import uvicorn
    from fastapi import Depends, FastAPI, Header, HTTPException, Query, Response
    from pydantic import BaseModel, Field

    from perdure.ops.prometheus import Metrics
    from perdure.ops.starlette import add_endpoints, answer_errors, lifespan, runtime_of
except ImportError as error:
    sys.exit(f"{error}; pip install 'perdure[service,prometheus]' fastapi uvicorn")

from perdure import (
    CommandFailed,
    Effects,
    Exponential,
    Indexed,
    InstanceView,
    Job,
    NonRetryable,
    ProcessManager,
    Runtime,
    SagaRef,
    Status,
    Stuck,
    WorkQueue,
    applies,
    compensates,
    continues,
    message,
    on_deadline,
    starts,
)
from perdure.errors import PerdureError
from perdure.ops.asgi import endpoints

# Messages: events say what has happened, commands what somebody shall do


@message
class OrderPlaced:
    order_id: str
    customer: str
    item: str
    amount: int


@message
class PaymentReceived:
    order_id: str


@message
class OrderCancelled:
    order_id: str


@message
class BookItem:
    order_id: str
    item: str


@message
class ItemBooked:
    order_id: str


@message
class ShipItem:
    order_id: str
    item: str


@message
class ItemShipped:
    order_id: str
    tracking: str


@message
class RefundPayment:
    order_id: str
    amount: int


@message
class PaymentRefunded:
    order_id: str


# The process


@dataclass(frozen=True)
class OrderState:
    customer: Indexed[str] = ""
    item: str = ""
    amount: int = 0
    status: str = "new"
    tracking: str = ""


class Order(ProcessManager[OrderState]):
    """Strict messages are refused, over HTTP with a 404 or 409, if they do not fit."""

    @starts(OrderPlaced, by="order_id", when="new")
    def placed(self, state: OrderState, event: OrderPlaced, do: Effects) -> None:
        do.deadline("payment", timedelta(days=3))

    @on_deadline("payment")
    def not_paid(self, state: OrderState, do: Effects) -> None:
        do.fail("not paid in time")

    @continues(OrderCancelled, by="order_id", when="placed", strict=True)
    def cancelled(self, state: OrderState, event: OrderCancelled, do: Effects) -> None:
        do.fail("cancelled by the customer")

    @continues(PaymentReceived, by="order_id", when="placed", strict=True)
    def paid(self, state: OrderState, event: PaymentReceived, do: Effects) -> None:
        do.cancel_deadline("payment")
        do.send(BookItem(event.order_id, state.item))

    @continues(ItemBooked, by="order_id", when="paid")
    def booked(self, state: OrderState, event: ItemBooked, do: Effects) -> None:
        do.send(ShipItem(event.order_id, state.item))

    @continues(ItemShipped, by="order_id", when="booked")
    def shipped(self, state: OrderState, event: ItemShipped, do: Effects) -> None:
        do.complete()

    @compensates(BookItem, ShipItem)
    def give_back(self, state: OrderState, failed: BookItem | ShipItem) -> list[RefundPayment]:
        return [RefundPayment(failed.order_id, state.amount)]

    @continues(PaymentRefunded, by="order_id")
    def refunded(self, state: OrderState, event: PaymentRefunded, do: Effects) -> None:
        do.fail("it could not be fulfilled, and was refunded")

    @compensates(RefundPayment)
    def not_refunded(self, state: OrderState, failed: RefundPayment) -> list[Stuck]:
        return [Stuck(f"the refund of {failed.amount} failed")]

    # What is remembered

    @applies(OrderPlaced)
    def on_placed(self, state: OrderState, event: OrderPlaced) -> OrderState:
        return OrderState(event.customer, event.item, event.amount, "placed")

    @applies(PaymentReceived)
    def on_paid(self, state: OrderState, event: PaymentReceived) -> OrderState:
        return replace(state, status="paid")

    @applies(ItemBooked)
    def on_booked(self, state: OrderState, event: ItemBooked) -> OrderState:
        return replace(state, status="booked")

    @applies(ItemShipped)
    def on_shipped(self, state: OrderState, event: ItemShipped) -> OrderState:
        return replace(state, status="shipped", tracking=event.tracking)

    @applies(OrderCancelled)
    def on_cancelled(self, state: OrderState, event: OrderCancelled) -> OrderState:
        return replace(state, status="cancelled")

    @applies(CommandFailed)
    def on_failed(self, state: OrderState, event: CommandFailed) -> OrderState:
        return replace(state, status="refunding")

    @applies(PaymentRefunded)
    def on_refunded(self, state: OrderState, event: PaymentRefunded) -> OrderState:
        return replace(state, status="refunded")


# Who does the work: at least once, so that what they call wants to know ``job.key``

fulfilment = WorkQueue("fulfilment", concurrency=4, retry=Exponential(0.5, max_attempts=5))


@fulfilment.worker
async def book(command: BookItem) -> ItemBooked:
    if command.item == "piano":
        raise NonRetryable("no piano is left")
    return ItemBooked(command.order_id)


@fulfilment.worker
async def ship(command: ShipItem, job: Job) -> ItemShipped:
    return ItemShipped(command.order_id, tracking=uuid5(NAMESPACE_URL, job.key).hex[:10])


@fulfilment.worker
async def refund(command: RefundPayment) -> PaymentRefunded:
    if command.amount > 1000:
        raise NonRetryable("the bank does not refund that much")
    return PaymentRefunded(command.order_id)


# The service

STORE = os.environ.get("PERDURE_STORE", "sqlite+aiosqlite:///orders.db")


def runtime_over(store: str) -> Runtime:
    """Of one process, which has the file; or, over PostgreSQL, one of many."""
    if store.startswith("postgres"):
        from perdure.cluster import Cluster

        return Cluster(store, [Order, fulfilment])
    return Runtime(store, [Order, fulfilment])


try:
    runtime = runtime_over(STORE)
except PerdureError as error:  # a URL that is wrong, or no driver
    sys.exit(f"PERDURE_STORE: {error}")
app = FastAPI(title="Orders", lifespan=lifespan(runtime))
answer_errors(app)
add_endpoints(app, endpoints(runtime, metrics=Metrics(runtime)))

Orders = Annotated[Runtime, Depends(runtime_of)]
Key = Annotated[str, Header(alias="Idempotency-Key", min_length=1, max_length=200)]


class NewOrder(BaseModel):
    customer: str = Field(min_length=1, max_length=200)
    item: str = Field(min_length=1, max_length=200)
    amount: int = Field(gt=0, le=10**9)


@app.post("/orders", status_code=201)
async def place(new: NewOrder, key: Key, orders: Orders, response: Response) -> dict[str, Any]:
    order_id = uuid5(NAMESPACE_URL, key).hex  # whoever repeats the request means the same order
    placed = OrderPlaced(order_id, new.customer, new.item, new.amount)
    [receipt] = await orders.publish(placed, message_id=f"place/{key}")
    if receipt.duplicate:
        response.status_code = 200
    order = await seen(orders, order_id)
    if new.model_dump() != {name: order[name] for name in ("customer", "item", "amount")}:
        raise HTTPException(422, "this Idempotency-Key is another order's")
    return order


@app.get("/orders")
async def search(
    orders: Orders,
    customer: str | None = None,
    status: Status | None = None,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> dict[str, Any]:
    where = {} if customer is None else {"customer": customer}
    views = orders.find(Order, status=status, where=where, after=after, limit=limit)
    found = [view async for view in views]
    more = found[-1].cursor if len(found) == limit else None
    return {"orders": [shown(view) for view in found], "after": more}


@app.get("/orders/{order_id}")
async def show(order_id: str, orders: Orders) -> dict[str, Any]:
    return await seen(orders, order_id)


@app.post("/orders/{order_id}/payment")
async def pay(order_id: str, key: Key, orders: Orders) -> dict[str, Any]:
    await orders.send(ref(orders, order_id), PaymentReceived(order_id), message_id=f"pay/{key}")
    return await seen(orders, order_id)


@app.delete("/orders/{order_id}")
async def cancel(order_id: str, orders: Orders) -> dict[str, Any]:
    await orders.send(ref(orders, order_id), OrderCancelled(order_id), message_id="cancel")
    return await seen(orders, order_id)


@app.get("/orders/{order_id}/history")
async def history(order_id: str, orders: Orders) -> Sequence[dict[str, Any]]:
    turns = [
        {"at": turn.at, "type": turn.type, "outcome": turn.outcome, "sent": turn.sent}
        async for turn in orders.history(ref(orders, order_id))
    ]
    if not turns:
        raise HTTPException(404, "there is no such order")
    return turns


def ref(orders: Runtime, order_id: str) -> SagaRef:
    return orders.ref(Order, order_id)


async def seen(orders: Runtime, order_id: str) -> dict[str, Any]:
    view = await orders.state(ref(orders, order_id))
    if view is None:
        raise HTTPException(404, "there is no such order")
    return shown(view)


def shown(view: InstanceView) -> dict[str, Any]:
    order: OrderState = view.state or OrderState(status="unreadable")  # one in a listing may be
    return {
        "id": view.correlation_id,
        "status": view.status,
        "stage": order.status,
        "customer": order.customer,
        "item": order.item,
        "amount": order.amount,
        "tracking": order.tracking,
        "failure": view.failure,
        "placed_at": view.started_at,
        "changed_at": view.updated_at,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Orders over HTTP.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args()
    # When uvicorn has ended in order, it raises again the signal that told it to.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(runtime.vitals().escalated is not None))
    uvicorn.run(app, host=options.host, port=options.port, log_level="warning")


if __name__ == "__main__":
    main()
