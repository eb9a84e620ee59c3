"""The conformance suite's part about settling: jobs done, changed and given up, letters moved.

Not meant to be derived from directly; see ``store_contract.py``.
"""

from __future__ import annotations

from dataclasses import replace

from perdure.core.commit import Entry
from perdure.errors import Gone, SequenceConflict
from perdure.store.protocol import Store
from perdure.testing.sample_rows import (
    dead_letter,
    inbox_row,
    jobs,
    outbox_row,
    settlement,
    turn,
)
from perdure.testing.store_contract_frame import ContractFrame, all_or_none, ready, with_store

__all__ = ["SettlementContract"]


class SettlementContract(ContractFrame):
    """Row changes that go together, and what becomes of those that come too late."""

    # -- settlements

    @with_store
    async def test_a_settlement_is_written_whole(self, store: Store, epoch: int) -> None:
        done, emitted = jobs(2)
        await store.write([settlement(outbox=(done,)), dead_letter("Order/1", "old")])
        [old] = await store.dead_letters()
        whole = settlement(
            "Order/1",
            job=done.position,
            letter=old.position,
            outbox=(emitted,),
            inbox=inbox_row("Order/1", "waits"),
            dead_letters=(dead_letter("Order/1", "new", job=done.position),),
        )
        assert await all_or_none(store, [whole]) == [None]
        assert await store.outbox() == [emitted]
        assert [row.message_id for row in await store.inbox()] == ["waits"]
        [letter] = await store.dead_letters()
        assert replace(letter, position=0) == whole.dead_letters[0]

    @with_store
    async def test_a_settlement_that_comes_too_late_leaves_nothing(
        self, store: Store, epoch: int
    ) -> None:
        held, other, never = jobs(3)
        await store.write([settlement(outbox=(held, other)), dead_letter("Order/1", "old")])
        [old] = await store.dead_letters()
        left = {
            "outbox": (never,),
            "inbox": inbox_row("Order/1", "waits"),
            "dead_letters": (dead_letter("Order/1", "new"),),
        }
        group: list[Entry] = [
            settlement("Order/1", job=never.position, **left),
            settlement("Order/1", letter=old.position + 1, **left),
            settlement("Order/1", job=held.position, letter=old.position + 1, **left),
            settlement("Order/1", job=never.position, letter=old.position, **left),
            settlement("Order/1", job=other.position),
        ]
        assert await all_or_none(store, group) == [Gone, Gone, Gone, Gone, None]
        assert await store.outbox() == [held]
        assert not await store.inbox()
        assert await store.dead_letters() == [old]

    @with_store
    async def test_what_is_gone_names_its_instance(self, store: Store, epoch: int) -> None:
        for entry, named in ((settlement("Order/o-7", job=9), "o-7"), (settlement(job=9), None)):
            [answer] = await store.write([entry])
            assert isinstance(answer, Gone)
            assert "9" in answer.problem
            assert answer.remedy
            assert answer.correlation_id == named

    @with_store
    async def test_of_two_that_take_one_job_the_second_is_gone(
        self, store: Store, epoch: int
    ) -> None:
        first, second = jobs(2)
        await store.write([settlement(outbox=(first,)), dead_letter("Order/1", "old")])
        [letter] = await store.dead_letters()
        taking = settlement(job=first.position)
        redriving = settlement(letter=letter.position, outbox=(second,))
        group: list[Entry] = [taking, redriving, taking, redriving]
        assert await all_or_none(store, group) == [None, None, Gone, Gone]
        assert await all_or_none(store, [taking, redriving]) == [Gone, Gone]
        assert await store.outbox() == [second]
        assert not await store.dead_letters()

    @with_store
    async def test_a_job_put_and_taken_in_one_group(self, store: Store, epoch: int) -> None:
        sent, put, back = jobs(3)
        group: list[Entry] = [
            turn("Order/1", 1, epoch, outbox=(sent,)),
            settlement(outbox=(put,)),
            settlement(job=put.position),
            settlement(job=sent.position, outbox=(back,)),
            settlement(job=back.position, outbox=(replace(back, attempts=4),)),
            settlement(job=put.position),
        ]
        assert await all_or_none(store, group) == [None, None, None, None, None, Gone]
        assert await store.outbox() == [replace(back, attempts=4)]

    @with_store
    async def test_a_job_may_come_back_to_its_position(self, store: Store, epoch: int) -> None:
        first, second = jobs(2)
        await store.write([settlement(outbox=(first, second))])
        dead = dead_letter("Order/1", first.id, job=first.position)
        await store.write([settlement(job=first.position, dead_letters=(dead,))])
        assert await store.outbox() == [second]
        [letter] = await store.dead_letters()
        await store.write([settlement(letter=letter.position, outbox=(first,))])
        assert await store.outbox() == [first, second]
        assert await ready(store) == [first.position, second.position]

    # -- the results of jobs, in turns

    @with_store
    async def test_a_turn_settles_its_job(self, store: Store, epoch: int) -> None:
        done, emitted, sent = jobs(3)
        await store.write([settlement(outbox=(done,))])
        settles = settlement(
            "Order/1",
            job=done.position,
            outbox=(emitted,),
            inbox=inbox_row("Order/1", "not used"),
            dead_letters=(dead_letter("Order/1", "dead", job=done.position),),
        )
        entry = turn("Order/1", 1, epoch, outbox=(sent,), settles=settles)
        assert await all_or_none(store, [entry]) == [None]
        assert await store.outbox() == [emitted, sent]
        assert [row.message_id for row in await store.dead_letters()] == ["dead"]
        assert not await store.inbox()

    @with_store
    async def test_a_turn_settles_also_what_is_not_there(self, store: Store, epoch: int) -> None:
        gone, emitted = jobs(2)
        settles = settlement("Order/1", job=gone.position, outbox=(emitted,))
        assert await all_or_none(store, [turn("Order/1", 1, epoch, settles=settles)]) == [None]
        assert await store.outbox() == [emitted]

    @with_store
    async def test_who_comes_after_a_settling_turn_is_gone(self, store: Store, epoch: int) -> None:
        done, other = jobs(2)
        await store.write([settlement(outbox=(done, other))])
        settles = settlement("Order/1", job=done.position)
        group: list[Entry] = [
            turn("Order/1", 1, epoch, settles=settles),
            settlement(job=done.position),
            replace(done, attempts=1),
            turn("Order/2", 1, epoch, settles=settlement("Order/2", job=other.position)),
            turn("Order/2", 2, epoch, settles=settlement("Order/2", job=other.position)),
        ]
        assert await all_or_none(store, group) == [None, Gone, Gone, None, None]
        assert not await store.outbox()

    @with_store
    async def test_a_turn_that_loses_settles_nothing(self, store: Store, epoch: int) -> None:
        [done] = jobs(1)
        await store.write([settlement(outbox=(done,))])
        settles = settlement("Order/1", job=done.position)
        group: list[Entry] = [
            turn("Order/1", 7, epoch, settles=settles),
            replace(done, attempts=1),
            settlement(job=done.position),
        ]
        assert await all_or_none(store, group) == [SequenceConflict, None, None]
        assert not await store.outbox()

    # -- what people repair, in turns

    @with_store
    async def test_a_turn_takes_all_that_is_repaired_with_it(
        self, store: Store, epoch: int
    ) -> None:
        hurried, done, redriven = jobs(3)
        await store.write([settlement(outbox=(hurried, done)), dead_letter("Order/1", "old")])
        [letter] = await store.dead_letters()
        now = replace(hurried, due_at_ms=7)
        repairs = (
            settlement("Order/1", job=hurried.position, outbox=(now,)),
            settlement("Order/1", job=done.position),
            settlement("Order/1", letter=letter.position, outbox=(redriven,)),
            settlement("Order/1", inbox=inbox_row("Order/1", "waits")),
        )
        lost = turn("Order/1", 2, epoch, repairs=repairs)
        assert await all_or_none(store, [lost]) == [SequenceConflict]
        assert await store.outbox() == [hurried, done]
        assert await store.dead_letters() == [letter]
        assert await all_or_none(store, [turn("Order/1", 1, epoch, repairs=repairs)]) == [None]
        assert await store.outbox() == [now, redriven]
        assert not await store.dead_letters()
        assert [row.message_id for row in await store.inbox()] == ["waits"]

    # -- rows that change

    @with_store
    async def test_a_changed_row_stays_in_its_place(self, store: Store, epoch: int) -> None:
        rows = jobs(3, given_id="")
        own = outbox_row("", 0, given_id="own")
        await store.write([settlement(outbox=(*rows, own))])
        failed = replace(rows[1], attempts=2, due_at_ms=500, error="later")
        group: list[Entry] = [replace(rows[1], attempts=1), failed, replace(own, attempts=1)]
        assert await all_or_none(store, group) == [None, None, None]
        expected = [rows[0], failed, rows[2], replace(own, attempts=1)]
        assert await store.outbox() == expected
        assert await store.jobs_due() == [failed]

    @with_store
    async def test_a_row_that_is_gone_is_not_changed(self, store: Store, epoch: int) -> None:
        first, second, new = jobs(3)
        await store.write([settlement(outbox=(first, second))])
        group: list[Entry] = [
            replace(first, attempts=1),
            settlement(job=first.position),
            replace(first, attempts=2),
            replace(new, attempts=1),
            settlement(outbox=(new,)),
            replace(new, attempts=1),
        ]
        assert await all_or_none(store, group) == [None, None, Gone, Gone, None, None]
        assert await store.outbox() == [second, replace(new, attempts=1)]

    # -- ids of their own

    @with_store
    async def test_a_given_id_waits_once(self, store: Store, epoch: int) -> None:
        first, again, third = (outbox_row("", 0, given_id="id", attempts=n) for n in range(3))
        await store.write([settlement(outbox=(first, again))])
        await store.write([settlement(outbox=(third,)), settlement(outbox=(again,))])
        settles = settlement("Order/1", outbox=(third, outbox_row("", 0, given_id="other")))
        await store.write([turn("Order/1", 1, epoch, settles=settles)])
        assert [(row.id, row.attempts) for row in await store.outbox()] == [("id", 0), ("other", 0)]

    @with_store
    async def test_a_given_id_is_free_when_its_job_is_done(self, store: Store, epoch: int) -> None:
        first, second, third, fourth = (outbox_row("", 0, given_id="id") for _ in range(4))
        await store.write([settlement(outbox=(first,))])
        await store.write([settlement(outbox=(second,)), settlement(job=first.position)])
        assert not await store.outbox()
        group: list[Entry] = [
            settlement(outbox=(second,)),
            settlement(job=second.position, outbox=(third,)),
            settlement(outbox=(second,)),
        ]
        assert await all_or_none(store, group) == [None, None, None]
        assert await store.outbox() == [third]
        await store.write([settlement(job=third.position), settlement(outbox=(fourth,))])
        assert await store.outbox() == [fourth]
