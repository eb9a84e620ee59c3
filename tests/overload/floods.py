"""Ten times more than is let in, by all the ways in, over a store that stalls and is slow."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, fields
from datetime import timedelta

from perdure import MemoryStore, Outcome, Runtime, Settings
from perdure.errors import MailboxFull
from perdure.store.protocol import Store
from perdure.testing import SimulatedClock
from tests.overload.common import (
    HANDLED,
    Figures,
    Hit,
    Peak,
    SlowStore,
    Tally,
    at_once,
    check_numbers,
    share,
)
from tests.runtime.support import parts, until
from tests.sagas import Added, Ledger


@dataclass(frozen=True)
class Sizes:
    """``senders`` coroutines, and ``threads`` that ask, and as many that tell, send ``each``."""

    senders: int = 1_000
    threads: int = 2
    each: int = 5
    instances: int = 20
    in_flight_max: int = 100
    mailbox_max: int = 20
    padding: int = 10_000
    latency_s: float = 0.0005


FULL = Sizes(senders=10_000, threads=4, each=10, instances=100, in_flight_max=1_000)


@dataclass
class Account:
    """What became of what one sender sent."""

    sent: int = 0
    acknowledged: int = 0
    refused: int = 0
    applied: int = 0
    dead: int = 0


class Flood:
    """The senders, and their accounts. What was told is found in the journal, or among letters."""

    def __init__(self, runtime: Runtime, sizes: Sizes) -> None:
        self.runtime, self.sizes = runtime, sizes
        self.refs = [runtime.ref(Tally, f"t-{n}") for n in range(sizes.instances)]
        self.accounts: dict[str, Account] = {}

    def _hits(self, sender: str):
        account = self.accounts[sender] = Account()
        for n in range(self.sizes.each):
            ref = self.refs[(hash(sender) + n) % len(self.refs)]
            account.sent += 1
            # Texts of their own, each of its weight.
            yield account, ref, Hit(ref.correlation_id, sender, n, "x" * self.sizes.padding)

    async def send(self, sender: str) -> None:
        for account, ref, hit in self._hits(sender):
            try:
                await self.runtime.send(ref, hit)
                account.acknowledged += 1
            except MailboxFull:
                account.refused += 1

    def ask(self, sender: str) -> None:
        for account, ref, hit in self._hits(sender):
            try:
                ref.ask(hit, timeout=60)
                account.acknowledged += 1
            except MailboxFull:
                account.refused += 1

    def tell(self, sender: str) -> None:
        for account, ref, hit in self._hits(sender):
            try:
                ref.tell(hit)
            except MailboxFull:
                account.refused += 1

    async def look(self) -> None:
        """Count what is durable."""
        for ref in self.refs:
            async for turn in self.runtime.history(ref):
                self.accounts[turn.message.sender].applied += 1
        async for letter in self.runtime.dead_letters.list():
            assert letter.reason == "MailboxFull"
            self.accounts[letter.content.sender].dead += 1

    def check(self) -> None:
        """Sent is acknowledged + refused + dead, of each sender."""
        for sender, account in self.accounts.items():
            assert account.sent == self.sizes.each
            assert account.sent == account.applied + account.refused + account.dead, sender
            if sender.startswith("tells"):
                assert account.acknowledged == 0
            else:
                assert (account.acknowledged, account.dead) == (account.applied, 0), sender


async def flood(sizes: Sizes = Sizes()) -> Figures:
    """The store stands still until senders were refused, then it is slow."""
    store = SlowStore(MemoryStore(), sizes.latency_s)
    settings = Settings(
        in_flight_max=sizes.in_flight_max,
        mailbox_max=sizes.mailbox_max,
        accept_timeout_s=0.02,
        batch_max=20,
    )
    held = 0
    async with Runtime(store, [Tally], settings) as runtime:
        flood, admission = Flood(runtime, sizes), parts(runtime).supervisor.admission
        commit, handoff = parts(runtime).services.commit, parts(runtime).handoff
        store.hold_writes()
        peak = Peak()
        tasks: list[asyncio.Future[None]] = [
            asyncio.create_task(flood.send(f"sends {n}")) for n in range(sizes.senders)
        ]
        loop = asyncio.get_running_loop()
        for n in range(sizes.threads):
            tasks.append(loop.run_in_executor(None, flood.tell, f"tells {n}"))
            tasks.append(loop.run_in_executor(None, flood.ask, f"asks {n}"))
        await until(lambda: sum(a.refused for a in flood.accounts.values()) > sizes.senders // 2)
        is_first = True
        while not all(task.done() for task in tasks):
            held = max(held, admission.accepted)
            assert admission.accepted <= sizes.in_flight_max
            assert max(admission._depth.values(), default=0) <= sizes.mailbox_max
            assert handoff._outstanding <= sizes.in_flight_max
            # What waits to be written was accepted, or is the letter of what was handed over.
            assert len(commit._waiting) <= 2 * sizes.in_flight_max
            if is_first:
                is_first = False
                store.release()
            await asyncio.sleep(0.001)
        await asyncio.gather(*tasks)
        grown = peak.grown_bytes
        await check_numbers(runtime, store)
        await flood.look()
        flood.check()
    found = Counter[str]()
    for account in flood.accounts.values():
        found.update({entry.name: getattr(account, entry.name) for entry in fields(account)})
    assert found["applied"]
    assert found["refused"]
    HANDLED.clear()
    # Durable rows are memory here, too: the store keeps them in dicts.
    stored = (found["applied"] + found["dead"]) * sizes.padding
    waiting = (sizes.senders + 2 * sizes.threads) * sizes.padding
    bound = waiting + 3 * sizes.in_flight_max * sizes.padding
    return {
        **found,
        "held at most": held,
        "bytes sent": found["sent"] * sizes.padding,
        "bytes stored": stored,
        "bytes bound": bound,
        "bytes grown": grown,
        "grown / bound": max(grown - stored, 0) / bound,
    }


@dataclass(frozen=True)
class Crowd:
    """One instance gets ``hot`` messages while ``others`` get one each, or the reverse."""

    hot: int = 5_000
    others: int = 200
    in_flight_max: int = 200
    mailbox_max: int = 100


FULL_CROWD = Crowd(hot=100_000, others=1_000, in_flight_max=2_000, mailbox_max=1_000)


async def crowd(sizes: Crowd = Crowd()) -> Figures:
    """How many turns of anybody pass between sending and turn, for the hot one and the others."""
    HANDLED.clear()
    store = SlowStore(MemoryStore())
    sent_at: dict[str, int] = {}
    settings = Settings(
        in_flight_max=sizes.in_flight_max, mailbox_max=sizes.mailbox_max, accept_timeout_s=600
    )
    async with Runtime(store, [Tally], settings) as runtime:

        async def send(id: str, n: int) -> None:
            hit = Hit(id, id, n)
            sent_at[hit.name] = len(HANDLED)
            await runtime.send(runtime.ref(Tally, id), hit)

        # The hot one's senders are always there, twice as many as its mailbox holds.
        numbers = iter(range(sizes.hot))

        async def hot() -> None:
            for n in numbers:
                await send("hot", n)

        senders = [asyncio.create_task(hot()) for _ in range(2 * sizes.mailbox_max)]
        every = max(sizes.hot // sizes.others, 1)
        beside: list[asyncio.Task[None]] = []
        while len(beside) < sizes.others:
            await until(lambda: len(HANDLED) >= len(beside) * every // 2)
            beside.append(asyncio.create_task(send(f"o-{len(beside)}", 0)))
        await asyncio.gather(*senders, *beside)
        await check_numbers(runtime, store)
    waits = {name: turn - sent_at[name] for turn, name in enumerate(HANDLED)}
    assert len(waits) == len(HANDLED) == sizes.hot + sizes.others
    hot_waits = [wait for name, wait in waits.items() if name.startswith("hot:")]
    other_waits = [wait for name, wait in waits.items() if not name.startswith("hot:")]
    HANDLED.clear()
    return {
        "turns": len(waits),
        "hot: median wait": share(hot_waits, 0.5),
        "hot: longest wait": max(hot_waits),
        "others: median wait": share(other_waits, 0.5),
        "others: p99 wait": share(other_waits, 0.99),
        "others: longest wait": max(other_waits),
    }


async def reverse(sizes: Crowd = Crowd()) -> Figures:
    """Many are busy; one that gets a message now and then does not wait longer than its share."""
    HANDLED.clear()
    store = SlowStore(MemoryStore())
    sent_at: dict[str, int] = {}
    settings = Settings(
        in_flight_max=sizes.in_flight_max, mailbox_max=sizes.mailbox_max, accept_timeout_s=600
    )
    rounds_each = max(sizes.hot // sizes.others, 1)
    async with Runtime(store, [Tally], settings) as runtime:

        async def busy(id: str) -> None:
            for n in range(rounds_each):
                await runtime.send(runtime.ref(Tally, id), Hit(id, id, n))

        async def quiet() -> None:
            for n in range(20):
                hit = Hit("quiet", "quiet", n)
                sent_at[hit.name] = len(HANDLED)
                await runtime.send(runtime.ref(Tally, "quiet"), hit)

        await asyncio.gather(quiet(), *(busy(f"o-{n}") for n in range(sizes.others)))
        await check_numbers(runtime, store)
    waits = [turn - sent_at[name] for turn, name in enumerate(HANDLED) if name in sent_at]
    HANDLED.clear()
    return {"turns": rounds_each * sizes.others + 20, "quiet: longest wait": max(waits)}


async def strangers(inner: Store, count: int = 500, residents: int = 20) -> Figures:
    """A message each for very many instances that are not there: kept on disk, then given up."""
    store, clock = SlowStore(inner), SimulatedClock()
    settings = Settings(residents_max=residents, deadline_page=residents, batch_max=50)
    most = held = 0
    async with Runtime(store, [Ledger], settings, clock=clock) as runtime:
        timer = parts(runtime).supervisor.wakeups._inbox

        async def send(id: str) -> None:
            nonlocal most, held
            [receipt] = await runtime.publish(Added(id, 1))
            assert receipt.outcome is Outcome.PARKED
            most, held = max(most, runtime.residents), max(held, len(timer._queue))

        await at_once(20, (send(f"nobody-{n}") for n in range(count)))
        assert len(await store.inner.inbox(limit=count + 1)) == count
        assert most <= residents + 20 + settings.batch_max
        assert held <= 2 * residents
        await clock.advance(timedelta(minutes=2))
        await check_numbers(runtime, store)
        assert await store.inner.inbox() == []
        letters = [letter.correlation_id async for letter in runtime.dead_letters.list()]
        assert len(letters) == len(set(letters)) == count
    return {"parked": count, "residents at most": most, "held at most": held}
