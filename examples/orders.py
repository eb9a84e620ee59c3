"""The messages and the process manager of an order: what a user of perdure writes.

Next to read: ``order_fulfilment.py``, where a service runs it, is killed, and another goes on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta

from perdure import (
    Effects,
    ProcessManager,
    applies,
    continues,
    message,
    on_deadline,
    on_timeout,
    starts,
    stops,
)

# Messages. Events say what has happened, commands what somebody else shall do.


@message
class OrderPlaced:
    order_id: str
    amount: int


@message
class PaymentReceived:
    order_id: str


@message
class InventoryReserved:
    order_id: str


@message
class ItemShipped:
    order_id: str


@message
class OrderCancelled:
    order_id: str


@message
class ProcessPayment:
    order_id: str
    amount: int


@message
class ReserveInventory:
    order_id: str


@message
class AskWarehouse:
    order_id: str


@message
class ShipItem:
    order_id: str


@message
class RefundPayment:
    order_id: str


# The process manager. Appliers (@applies) change the state and do nothing else: the state is
# rebuilt with them from the journal. Handlers say what shall be done, and are not called for that.


@dataclass(frozen=True)
class Order:
    order_id: str = ""
    amount: int = 0
    status: str = "new"


class OrderFulfilment(ProcessManager[Order]):
    timeout = timedelta(days=15)  # for the whole process, see given_up

    @starts(OrderPlaced, by="order_id", when="new")  # an order is placed once
    def placed(self, state: Order, event: OrderPlaced, do: Effects) -> None:
        do.send(ProcessPayment(event.order_id, event.amount))

    @continues(PaymentReceived, by="order_id", when="awaiting_payment")
    def paid(self, state: Order, event: PaymentReceived, do: Effects) -> None:
        do.send(ReserveInventory(state.order_id))
        do.deadline("pick", timedelta(hours=4))

    @on_deadline("pick")
    def not_picked(self, state: Order, do: Effects) -> None:
        do.send(AskWarehouse(state.order_id))

    @continues(InventoryReserved, by="order_id", when="awaiting_inventory")
    def reserved(self, state: Order, event: InventoryReserved, do: Effects) -> None:
        do.cancel_deadline("pick")
        do.send(ShipItem(state.order_id))

    @continues(ItemShipped, by="order_id", when="awaiting_shipment")
    def shipped(self, state: Order, event: ItemShipped, do: Effects) -> None:
        do.complete()

    @stops(OrderCancelled, by="order_id", when="awaiting_payment")
    def cancelled(self, state: Order, event: OrderCancelled, do: Effects) -> None:
        pass  # nothing to make up for

    @stops(OrderCancelled, by="order_id", when="awaiting_inventory")
    def cancelled_when_paid(self, state: Order, event: OrderCancelled, do: Effects) -> None:
        do.send(RefundPayment(state.order_id))

    @on_timeout
    def given_up(self, state: Order, do: Effects) -> None:
        do.fail("took too long")

    @applies(OrderPlaced)
    def on_placed(self, state: Order, event: OrderPlaced) -> Order:
        return Order(event.order_id, event.amount, "awaiting_payment")

    @applies(PaymentReceived)
    def on_paid(self, state: Order, event: PaymentReceived) -> Order:
        return replace(state, status="awaiting_inventory")

    @applies(InventoryReserved)
    def on_reserved(self, state: Order, event: InventoryReserved) -> Order:
        return replace(state, status="awaiting_shipment")

    @applies(ItemShipped)
    def on_shipped(self, state: Order, event: ItemShipped) -> Order:
        return replace(state, status="shipped")

    @applies(OrderCancelled)
    def on_cancelled(self, state: Order, event: OrderCancelled) -> Order:
        return replace(state, status="cancelled")
