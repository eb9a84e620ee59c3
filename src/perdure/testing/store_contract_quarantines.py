"""The conformance suite's part about instances that are set aside, and what is held for them.

Not meant to be derived from directly; see ``store_contract.py``.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from perdure.core.commit import InboxReason
from perdure.errors import Gone
from perdure.store.protocol import Store
from perdure.testing.sample_rows import HOSTILE, inbox_row, jobs, quarantine_row, settlement, turn
from perdure.testing.store_contract_frame import (
    ContractFrame,
    StoreSource,
    all_or_none,
    with_store,
)

__all__ = ["QuarantineContract"]


class QuarantineContract(ContractFrame):
    """Set aside and released; the messages of an instance counted, and taken out."""

    @with_store
    async def test_a_quarantine_goes_with_its_message(self, store: Store, epoch: int) -> None:
        (job,) = jobs(1)
        await store.write([settlement(outbox=(job,))])
        aside = settlement(
            "Order/1",
            job=job.position,
            inbox=inbox_row("Order/1", "m-1", reason=InboxReason.HELD),
            quarantine=quarantine_row("Order/1"),
        )
        assert await all_or_none(store, [aside]) == [None]
        assert await store.quarantines() == [quarantine_row("Order/1")]
        assert [row.message_id for row in await store.inbox()] == ["m-1"]
        assert await store.outbox() == []

    @with_store
    async def test_a_quarantine_whose_job_is_gone_is_not_begun(
        self, store: Store, epoch: int
    ) -> None:
        late = settlement("Order/1", job=999, taken="m-1", quarantine=quarantine_row("Order/1"))
        await store.write([inbox_row("Order/1", "m-1")])
        [answer] = await store.write([late])
        assert isinstance(answer, Gone)
        assert await store.quarantines() == []
        assert len(await store.inbox()) == 1

    @with_store
    async def test_the_last_word_on_a_quarantine_counts(self, store: Store, epoch: int) -> None:
        one, two = quarantine_row("Order/1"), quarantine_row("Order/2")
        over = replace(one, is_over=True)
        await store.write([settlement(quarantine=row) for row in (two, one)])
        assert await store.quarantines() == [one, two]
        again = replace(two, reason="corrupt", error="", since_ms=9)
        await store.write([settlement(quarantine=row) for row in (over, again)])
        assert await store.quarantines() == [again]
        await store.write([settlement(quarantine=row) for row in (one, over, over)])
        assert await store.quarantines() == [again]
        await store.write([settlement(quarantine=row) for row in (over, one)])
        assert await store.quarantines() == [one, again]

    @with_store
    async def test_a_message_is_taken_out_of_the_inbox(self, store: Store, epoch: int) -> None:
        await store.write([inbox_row("Order/1", "m-1"), inbox_row("Order/2", "m-1")])
        await store.write([inbox_row("Order/1", "m-2"), settlement("Order/1", taken="m-1")])
        found = [(row.instance, row.message_id) for row in await store.inbox()]
        assert found == [("Order/2", "m-1"), ("Order/1", "m-2")]
        await store.write([settlement("Order/1", taken="m-2"), inbox_row("Order/1", "m-2")])
        assert len(await store.inbox()) == 2

    @with_store
    async def test_waiting_messages_are_counted(self, store: Store, epoch: int) -> None:
        names = [name for name in HOSTILE if name.isprintable()]
        for count, name in enumerate(names, 1):
            await store.write([inbox_row(name, f"m-{n}") for n in range(count)])
        assert await store.inbox_sizes(names[:3]) == {names[0]: 1, names[1]: 2, names[2]: 3}
        assert await store.inbox_sizes([names[1], names[1], "Order/none"]) == {names[1]: 2}
        assert await store.inbox_sizes([]) == {}
        everybody = await store.inbox_sizes([*names, *map(str, range(300))])
        assert list(everybody.values()).count(0) == 0
        assert sum(everybody.values()) == len(await store.inbox())

    def test_quarantines_are_there_after_reopening(self, tmp_path: Path) -> None:
        async def scenario(source: StoreSource) -> None:
            store, epoch = await source.opened()
            await store.write(
                [turn("Order/1", 1, epoch), settlement(quarantine=quarantine_row("Order/1"))]
            )
            store, _ = await source.reopened()
            assert await store.quarantines() == [quarantine_row("Order/1")]
            assert len(await store.journal("Order/1")) == 1

        self.run(tmp_path, scenario)
