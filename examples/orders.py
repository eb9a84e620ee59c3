"""The messages and the process manager of an order: what a user of perdure writes.

    placed ─> paid ─> reserved ─> picked ─> shipped: fulfilled
       │        │         │          └ the carrier does not take it: refund, then release the item
       │        │         └ cancelled, or not picked in fifteen days: the same
       │        └ out of stock: refund
       └ the card is declined: cancelled, nothing has been done yet

It only decides. What it sends is done by the workers in ``shop.py``; next to read is that, then
``order_fulfilment.py``, where a service runs both, is killed, and another goes on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta

from perdure import (
    CommandFailed,
    Effects,
    ProcessManager,
    applies,
    compensates,
    continues,
    message,
    on_deadline,
    on_timeout,
    starts,
)

# Messages. Events say what has happened, commands what somebody else shall do.


@message
class OrderPlaced:
    order_id: str
    item: str
    amount: int


@message
class OrderCancelled:
    order_id: str


@message
class ItemPicked:
    """Somebody in the warehouse has the item in hands."""

    order_id: str


@message
class ProcessPayment:
    order_id: str
    amount: int


@message
class PaymentReceived:
    order_id: str


@message
class PaymentDeclined:
    order_id: str
    reason: str


@message
class ReserveInventory:
    order_id: str
    item: str


@message
class InventoryReserved:
    order_id: str


@message
class AskWarehouse:
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


@message
class ReleaseInventory:
    order_id: str
    item: str


@message
class InventoryReleased:
    order_id: str


@message
class GivenUp:
    """Recorded when an order that was paid is not to be fulfilled: from here on it is undone."""

    reason: str


@message
class OrderFulfilled:
    """The result, for whoever wants to hear of it."""

    order_id: str
    amount: int


# The process manager. Appliers (@applies) change the state and do nothing else: the state is
# rebuilt with them from the journal. Handlers say what shall be done, and are not called for that.


@dataclass(frozen=True)
class Order:
    """``is_paid`` and ``is_reserved`` say what would have to be undone now."""

    order_id: str = ""
    item: str = ""
    amount: int = 0
    status: str = "new"
    reason: str = ""
    is_paid: bool = False
    is_reserved: bool = False


class OrderFulfilment(ProcessManager[Order]):
    timeout = timedelta(days=15)  # for the whole process, see given_up

    @starts(OrderPlaced, by="order_id", when="new")  # an order is placed once
    def placed(self, state: Order, event: OrderPlaced, do: Effects) -> None:
        do.send(ProcessPayment(event.order_id, event.amount))

    @continues(PaymentReceived, by="order_id", when="awaiting_payment")
    def paid(self, state: Order, event: PaymentReceived, do: Effects) -> None:
        do.send(ReserveInventory(state.order_id, state.item))

    @continues(PaymentDeclined, by="order_id", when="awaiting_payment")
    def declined(self, state: Order, event: PaymentDeclined, do: Effects) -> None:
        do.fail(event.reason)

    @continues(InventoryReserved, by="order_id", when="awaiting_inventory")
    def reserved(self, state: Order, event: InventoryReserved, do: Effects) -> None:
        do.deadline("pick", timedelta(hours=4))

    @on_deadline("pick")
    def not_picked(self, state: Order, do: Effects) -> None:
        do.send(AskWarehouse(state.order_id))

    @continues(ItemPicked, by="order_id", when="awaiting_picking")
    def picked(self, state: Order, event: ItemPicked, do: Effects) -> None:
        do.cancel_deadline("pick")
        do.send(ShipItem(state.order_id, state.item))

    @continues(ItemShipped, by="order_id", when="awaiting_shipment")
    def shipped(self, state: Order, event: ItemShipped, do: Effects) -> None:
        do.complete(OrderFulfilled(state.order_id, state.amount))

    # The way back

    @compensates(ReserveInventory, ShipItem)
    def make_up(
        self, state: Order, failed: ReserveInventory | ShipItem
    ) -> list[RefundPayment | ReleaseInventory]:
        return undoing(state)  # done in this order, each after the one before

    @continues(OrderCancelled, by="order_id", when="awaiting_picking")
    def cancelled(self, state: Order, event: OrderCancelled, do: Effects) -> None:
        self.give_up(state, "cancelled", do)

    @on_timeout
    def given_up(self, state: Order, do: Effects) -> None:
        if state.status == "awaiting_picking":  # else a command is under way: its end decides
            self.give_up(state, "took too long", do)

    def give_up(self, state: Order, reason: str, do: Effects) -> None:
        do.record(GivenUp(reason))
        do.cancel_deadline("pick")
        for number, command in enumerate(undoing(state)):
            do.send(command, after_previous=number > 0)

    @continues(PaymentRefunded, InventoryReleased, by="order_id", when="undoing")
    def undone(self, state: Order, event: PaymentRefunded | InventoryReleased, do: Effects) -> None:
        if not undoing(state):
            do.fail(state.reason)

    # The appliers

    @applies(OrderPlaced)
    def on_placed(self, state: Order, event: OrderPlaced) -> Order:
        return Order(event.order_id, event.item, event.amount, "awaiting_payment")

    @applies(PaymentReceived)
    def on_paid(self, state: Order, event: PaymentReceived) -> Order:
        return replace(state, status="awaiting_inventory", is_paid=True)

    @applies(PaymentDeclined)
    def on_declined(self, state: Order, event: PaymentDeclined) -> Order:
        return replace(state, status="cancelled")

    @applies(InventoryReserved)
    def on_reserved(self, state: Order, event: InventoryReserved) -> Order:
        return replace(state, status="awaiting_picking", is_reserved=True)

    @applies(ItemPicked)
    def on_picked(self, state: Order, event: ItemPicked) -> Order:
        return replace(state, status="awaiting_shipment")

    @applies(ItemShipped)
    def on_shipped(self, state: Order, event: ItemShipped) -> Order:
        return replace(state, status="shipped")

    @applies(CommandFailed)
    def on_failed(self, state: Order, failure: CommandFailed) -> Order:
        if isinstance(failure.command, ReserveInventory | ShipItem):
            return replace(state, status="undoing", reason=failure.error)
        return state

    @applies(GivenUp)
    def on_given_up(self, state: Order, event: GivenUp) -> Order:
        return replace(state, status="undoing", reason=event.reason)

    @applies(PaymentRefunded)
    def on_refunded(self, state: Order, event: PaymentRefunded) -> Order:
        return undone(replace(state, is_paid=False))

    @applies(InventoryReleased)
    def on_released(self, state: Order, event: InventoryReleased) -> Order:
        return undone(replace(state, is_reserved=False))


def undoing(state: Order) -> list[RefundPayment | ReleaseInventory]:
    """What makes up for all that was done: the money first, nobody waits for the item."""
    commands: list[RefundPayment | ReleaseInventory] = []
    if state.is_paid:
        commands.append(RefundPayment(state.order_id, state.amount))
    if state.is_reserved:
        commands.append(ReleaseInventory(state.order_id, state.item))
    return commands


def undone(state: Order) -> Order:
    return state if undoing(state) else replace(state, status="cancelled")
