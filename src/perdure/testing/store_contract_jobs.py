"""The conformance suite's part about what waits: jobs that may start, queues, messages.

Not meant to be derived from directly; see ``store_contract.py``.
"""

from __future__ import annotations

from dataclasses import replace

from perdure.core.commit import InboxReason
from perdure.store.backlog import Backlog, QueueBacklog
from perdure.store.protocol import Store
from perdure.testing.sample_rows import (
    dead_letter,
    inbox_row,
    jobs,
    outbox_row,
    queue_row,
    settlement,
    turn,
)
from perdure.testing.store_contract_frame import ContractFrame, ready, with_store

__all__ = ["JobContract"]


class JobContract(ContractFrame):
    """What is found of that which waits."""

    # -- which jobs may start

    @with_store
    async def test_jobs_ready_are_due_and_of_the_queue(self, store: Store, epoch: int) -> None:
        times = (300, 0, 100, 101, 0, 50)
        rows = [outbox_row("Order/1", 1, n, due_at_ms=due) for n, due in enumerate(times)]
        other = outbox_row("Order/1", 1, 9, target="shipping")
        await store.write([settlement(outbox=(*rows, other))])
        expected = [rows[index].position for index in (1, 4, 5, 2)]
        assert await ready(store, 100) == expected
        assert [row.position for row in await store.jobs_ready("payments", 100, 3)] == expected[:3]
        assert await ready(store, 100, "shipping") == [other.position]
        assert await ready(store, 100, "none") == []

    @with_store
    async def test_a_chain_starts_link_by_link(self, store: Store, epoch: int) -> None:
        one, two, three = jobs(3)
        two.after, one.leads = one.position, True
        three.after, two.leads = two.position, True
        await store.write([turn("Order/1", 1, epoch, outbox=(one, two, three))])
        for row in (one, two, three):
            assert await ready(store) == [row.position]
            await store.write([replace(row, attempts=1)])
            assert await ready(store) == [row.position]
            await store.write([settlement(job=row.position)])
        assert await ready(store) == []

    @with_store
    async def test_a_link_that_failed_holds_its_chain(self, store: Store, epoch: int) -> None:
        one, two = jobs(2)
        two.after, one.leads = one.position, True
        await store.write([settlement(outbox=(one, two))])
        dead = dead_letter("Order/1", one.id, job=one.position)
        await store.write([settlement(job=one.position, dead_letters=(dead,))])
        assert await ready(store) == []
        [letter] = await store.dead_letters()
        await store.write([settlement(letter=letter.position, outbox=(one,))])
        assert await ready(store) == [one.position]
        await store.write([settlement(job=one.position, dead_letters=(dead,))])
        [letter] = await store.dead_letters()
        await store.write([settlement(letter=letter.position)])
        assert await ready(store) == [two.position]

    @with_store
    async def test_jobs_due_wait_for_a_moment(self, store: Store, epoch: int) -> None:
        rows = [outbox_row("Order/1", 1, n, due_at_ms=100 * (n % 3)) for n in range(12)]
        await store.write([settlement(outbox=tuple(rows))])
        found = await store.jobs_due(limit=3)
        while page := await store.jobs_due((found[-1].due_at_ms, found[-1].position), limit=3):
            found += page
        waiting = [row for row in rows if row.due_at_ms]
        assert found == sorted(waiting, key=lambda row: (row.due_at_ms, row.position))

    @with_store
    async def test_jobs_by_position(self, store: Store, epoch: int) -> None:
        lead, *followers = jobs(4)
        for row in followers[:2]:
            row.after = lead.position
        await store.write([settlement(outbox=(lead, *followers))])
        asked = [followers[2].position, lead.position, lead.position, followers[2].position + 1]
        assert await store.jobs_at(asked) == [lead, followers[2]]
        assert await store.jobs_at([]) == []
        assert await store.jobs_after(lead.position) == followers[:2]
        assert await store.jobs_after(followers[0].position) == []
        assert await store.jobs_after(0) == []

    @with_store
    async def test_many_jobs_by_position(self, store: Store, epoch: int) -> None:
        rows = jobs(2500)
        await store.write([settlement(outbox=rows)])
        assert await store.jobs_at([row.position for row in reversed(rows)]) == list(rows)

    # -- queues

    @with_store
    async def test_the_jobs_of_a_queue_page_by_page(self, store: Store, epoch: int) -> None:
        rows = [outbox_row("Order/1", 1, n, target="ab"[n % 2], due_at_ms=9 - n) for n in range(9)]
        await store.write([settlement(outbox=tuple(rows))])
        found = await store.outbox(limit=2, queue="a")
        while page := await store.outbox(found[-1].position, 2, "a"):
            found += page
        assert found == rows[::2]
        assert await store.outbox(queue="") == []
        assert await store.queue_depths() == {"a": 5, "b": 4}

    @with_store
    async def test_no_jobs_no_depths(self, store: Store, epoch: int) -> None:
        assert await store.queue_depths() == {}
        assert await store.backlog() == Backlog()

    @with_store
    async def test_how_much_waits_and_since_when(self, store: Store, epoch: int) -> None:
        rows = [
            outbox_row("Order/1", 1, n, target="ab"[n % 2], created_at_ms=100 + n) for n in range(5)
        ]
        letters = (dead_letter("Order/1", "m", job=0), dead_letter("Order/1", "n", job=9))
        await store.write([settlement(outbox=tuple(rows)), *letters, inbox_row("Order/2", "m")])
        queues = {"a": QueueBacklog(3, 100), "b": QueueBacklog(2, 101)}
        assert await store.backlog() == Backlog(queues, 2, 1, 1)

    @with_store
    async def test_the_last_word_on_a_queue_counts(self, store: Store, epoch: int) -> None:
        await store.write([queue_row("b"), queue_row("a")])
        assert await store.queues() == [queue_row("a"), queue_row("b")]
        last = queue_row("b", is_paused=False, reason="", changed_at_ms=9)
        await store.write([queue_row("b", reason="first"), last])
        assert await store.queues() == [queue_row("a"), last]

    # -- messages that wait

    @with_store
    async def test_a_message_is_replaced_in_its_place(self, store: Store, epoch: int) -> None:
        await store.write([inbox_row("Order/1", name) for name in "abc"])
        before = await store.inbox()
        later = inbox_row(
            "Order/1",
            "b",
            reason=InboxReason.DELAYED,
            attempts=7,
            due_at_ms=900,
            error="again",
            body=b"replaced",
            replaces=True,
        )
        await store.write([replace(later, attempts=6), later, inbox_row("Order/1", "b")])
        after = await store.inbox()
        assert after == [
            before[0],
            replace(later, position=before[1].position, replaces=False),
            before[2],
        ]

    @with_store
    async def test_replacing_what_does_not_wait_puts_it(self, store: Store, epoch: int) -> None:
        await store.write(
            [
                inbox_row("Order/1", "a"),
                inbox_row("Order/1", "b", replaces=True),
                inbox_row("Order/1", "c"),
                inbox_row("Order/1", "a", body=b"new", replaces=True),
            ]
        )
        found = await store.inbox()
        assert [(row.message_id, row.body) for row in found] == [
            ("a", b"new"),
            ("b", b"waiting b"),
            ("c", b"waiting c"),
        ]

    @with_store
    async def test_replaced_and_consumed_in_one_group(self, store: Store, epoch: int) -> None:
        await store.write([inbox_row("Order/1", "m-1"), inbox_row("Order/1", "x")])
        again = inbox_row("Order/1", "m-1", body=b"again", replaces=True)
        consuming = turn("Order/1", 1, epoch, consumes_inbox=True)
        await store.write([again, consuming])
        assert [row.message_id for row in await store.inbox()] == ["x"]
        await store.write([settlement(inbox=again), settlement(inbox=inbox_row("Order/1", "x"))])
        assert [row.message_id for row in await store.inbox()] == ["x", "m-1"]

    @with_store
    async def test_inbox_due_is_what_time_concerns(self, store: Store, epoch: int) -> None:
        rows = [
            inbox_row(f"Order/{n % 2}", f"m{n}", due_at_ms=None if n % 4 == 3 else 100 * (n % 3))
            for n in range(24)
        ]
        await store.write(rows)
        found = await store.inbox_due(limit=5)
        while page := await store.inbox_due(
            (found[-1].due_at_ms or 0, found[-1].instance, found[-1].message_id), limit=5
        ):
            found += page
        expected = [row for row in rows if row.due_at_ms is not None]
        expected.sort(key=lambda row: (row.due_at_ms, row.instance, row.message_id))
        assert [replace(row, position=0) for row in found] == expected
