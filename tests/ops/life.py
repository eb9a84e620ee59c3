"""A runtime in a process of its own, for the tests that look into its store.

    python -m tests.ops.life orders.db

Says "ready" when everything is set up; answers each line it is sent with "done": a number adds it
to account a-1, "stop" ends. Nobody imports it: who looks has none of its code.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

from perdure import (
    Approval,
    Approvals,
    AskApproval,
    Context,
    Cron,
    Effects,
    Fixed,
    OrderedSaga,
    ProcessManager,
    Runtime,
    Schedule,
    Settings,
    Supervision,
    Who,
    WorkQueue,
    applies,
    continues,
    message,
    on_deadline,
    starts,
    step,
    workflow,
)

HOSTILE_ID = 'a/b "c" \x1b[31m\u202e %_;--'


@message(name="ops-life.Opened")
class Opened:
    id: str
    limit: Decimal = Decimal("10.50")


@message(name="ops-life.Added")
class Added:
    id: str
    n: int


@message(name="ops-life.Charge")
class Charge:
    id: str


@message(name="ops-life.Login")
class Login:
    id: str


@message(name="ops-life.Account")
@dataclass(frozen=True)
class AccountState:
    items: tuple[int, ...] = ()
    blob: bytes = b""


class Account(ProcessManager[AccountState]):
    name = "Account"
    supervision = Supervision.quarantine()

    @starts(Opened, by="id")
    def opened(self, state: AccountState, event: Opened, do: Effects) -> None:
        do.send(Charge(event.id))
        do.deadline("pick", timedelta(hours=4))
        if event.id == "a-1":
            policy = Approval(Who(people=("ann",), groups=("finance",)), expires=timedelta(days=3))
            do.start_child("boss", Approvals, AskApproval("", Charge("c"), policy, "eve"))

    @continues(Added, by="id")
    def added(self, state: AccountState, event: Added, do: Effects) -> None:
        if event.n < 0:
            raise ValueError("below zero \x1b[31m")
        do.reply({"items": len(state.items)})

    @on_deadline("pick")
    def pick(self, state: AccountState, do: Effects) -> None: ...

    @applies(Added)
    def add(self, state: AccountState, event: Added) -> AccountState:
        blob = bytes(10_000_000) if event.n == 7 else state.blob
        return replace(state, items=(*state.items, event.n), blob=blob)


trip = OrderedSaga("trip", Opened, by="id")


@trip.step(name="flight", nothing_to_undo=True)
def flight(data: Opened) -> None: ...


@trip.step(name="hotel", nothing_to_undo=True, retry=Fixed(3_600, max_attempts=3))
def hotel(data: Opened) -> None:
    raise ConnectionError("the hotel is closed")


@step(name="greet")
def greet(login: Opened) -> str:
    return "hello"


@workflow("onboarding", Opened, by="id", steps=[greet], events={Login: "id"})
async def onboarding(ctx: Context, begun: Opened) -> str:
    await ctx.step(greet, begun)
    await ctx.wait_event(Login, timeout=timedelta(days=3), name="first")
    return "welcome"


payments = WorkQueue("payments")


@payments.worker
def charge(command: Charge) -> None: ...


nightly = Schedule("nightly", Cron("0 3 * * *"), lambda run: None)


async def begin(runtime: Runtime) -> None:
    await runtime.queue("payments").pause("the provider is down")
    for saga in (Account, trip, onboarding):
        await runtime.send(runtime.ref(saga, "a-1"), Opened("a-1"))
    hostile = runtime.ref(Account, HOSTILE_ID)
    await runtime.send(hostile, Opened(HOSTILE_ID))
    await runtime.send(runtime.ref(Account, "bad"), Opened("bad"))
    await runtime.send(runtime.ref(Account, "bad"), Added("bad", -1))
    await runtime.send(runtime.ref(Account, "nobody"), Added("nobody", 1), message_id="m-parked")
    for n in range(5):
        await runtime.send(runtime.ref(Account, "a-1"), Added("a-1", n))
    await runtime.settled()


async def main(path: str) -> None:
    settings = Settings(snapshot_every=4, message_bytes_max=20_000_000)
    members: list[Any] = [Account, trip, onboarding, payments, nightly, Approvals]
    async with Runtime(f"sqlite+aiosqlite:///{path}", members, settings) as runtime:
        await begin(runtime)
        print("ready", flush=True)
        loop = asyncio.get_running_loop()
        while (line := (await loop.run_in_executor(None, sys.stdin.readline)).strip()) != "stop":
            if not line:
                return
            await runtime.send(runtime.ref(Account, "a-1"), Added("a-1", int(line)))
            print("done", flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
