"""A letter that is put again long after: its instance has forgotten its id, the journal has not."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from perdure import MemoryStore, SagaRef
from perdure.codec.codec import Codec
from perdure.errors import InstanceAlreadyExists, StoreUnavailable, UnknownType
from tests.cluster.pods import Pod, PodMail, cluster, key_in, nobody_knows
from tests.runtime.support import quickly, state_of, until
from tests.sagas import Added, Club, Founded, Ledger, Opened

FORGETS = 5
"""``processed_window``: twice as many ids are known at most."""

MANY = range(100, 100 + 4 * FORGETS)


async def opened(owner: Pod, shard: int = 1) -> SagaRef:
    ref = owner.runtime.ref(Ledger, key_in(shard))
    await owner.runtime.send(ref, Opened(ref.correlation_id))
    return ref


async def many(pod: Pod, ref: SagaRef) -> None:
    """More turns than their instance remembers."""
    for n in MANY:
        await pod.runtime.send(ref, Added(ref.correlation_id, n))


def deaf_to_answers(pod: Pod) -> None:
    pod.world.bells.is_deaf = lambda channel, payload: "replies" in channel


@quickly
async def test_an_answer_that_was_lost_is_found_in_the_journal() -> None:
    async with cluster(2, processed_window=FORGETS) as (a, b):
        await b.own(1)
        x = await opened(b)
        deaf_to_answers(a)
        sent = asyncio.create_task(a.runtime.send(x, Added(x.correlation_id, 1), message_id="m-1"))
        await until(lambda: bool(a.world.table.puts) and not a.world.table.rows)
        await many(b, x)
        receipt = await sent
        assert (receipt.sequence_nr, receipt.reply, receipt.duplicate) == (2, 1, False)
        assert (await state_of(b.runtime, x)).items == (1, *MANY)
        assert [row.message_id for row in a.world.table.puts].count("m-1") == 1, "not put again"


@quickly
async def test_so_is_the_turn_that_has_refused_it() -> None:
    async with cluster(2, [Club], processed_window=FORGETS) as (a, b):
        await b.own(1)
        club = b.runtime.ref(Club, key_in(1, "Club"))
        await b.runtime.send(club, Founded(club.correlation_id))
        deaf_to_answers(a)
        with pytest.raises(InstanceAlreadyExists, match="starts strictly"):
            await a.runtime.send(club, Founded(club.correlation_id), message_id="m-1")
        assert [row.message_id for row in a.world.table.puts].count("m-1") == 1, "not put again"


@quickly
async def test_an_answer_that_was_lost_and_is_of_newer_code_is_told_as_one_that_came(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with cluster(2) as (a, b):
        await b.own(1)
        x = await opened(b)
        deaf_to_answers(a)
        monkeypatch.setattr(Codec, "decode_value", nobody_knows)
        with pytest.raises(UnknownType, match="was taken in turn 2, and the reply cannot be read"):
            await a.runtime.send(x, Added(x.correlation_id, 1))
        assert (await state_of(b.runtime, x)).items == (1,)


@quickly
async def test_an_answer_that_is_swept_before_it_is_read_is_not_that_of_another_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with cluster(2) as (a, b):
        await b.own(1)
        x = await opened(b)
        deaf_to_answers(a)
        journal = MemoryStore.journal

        async def swept(self: MemoryStore, key: str, after: int = 0, limit: int = 1000) -> Any:
            rows = await journal(self, key, after, limit + 1)
            return [row for row in rows if row.sequence_nr != 2][:limit]

        sent = asyncio.create_task(a.runtime.send(x, Added(x.correlation_id, 1)))
        await until(lambda: bool(a.world.table.puts) and not a.world.table.rows)
        await b.runtime.send(x, Added(x.correlation_id, 2))
        found = PodMail.traces

        async def traced(self: PodMail, letters: Any) -> Any:
            traces = await found(self, letters)
            monkeypatch.setattr(MemoryStore, "journal", swept)
            return traces

        monkeypatch.setattr(PodMail, "traces", traced)
        with pytest.raises(StoreUnavailable, match="swept"):
            await sent


@quickly
async def test_a_put_whose_outcome_is_unknown_is_not_repeated_when_it_was_taken() -> None:
    async with cluster(2, processed_window=FORGETS, retry_pause_s=0.3) as (a, b):
        await b.own(1)
        x = await opened(b)
        a.mail.loses = 1
        deaf_to_answers(a)
        sent = asyncio.create_task(a.runtime.send(x, Added(x.correlation_id, 1)))
        await until(lambda: bool(a.world.table.puts) and not a.world.table.rows)
        await many(b, x)
        assert (await sent).sequence_nr == 2
        assert (await state_of(b.runtime, x)).items == (1, *MANY)


@pytest.mark.parametrize("is_told", [False, True])
def test_nor_when_its_row_waits_for_an_owner(is_told: bool) -> None:
    @quickly
    async def check() -> None:
        async with cluster(2, processed_window=FORGETS, retry_pause_s=0.05) as (a, b):
            await b.own(1)
            x = await opened(b)
            await b.leave(1)
            a.mail.loses = 1
            ref = a.runtime.ref(Ledger, x.correlation_id)
            first = Added(x.correlation_id, 1)
            if is_told:
                ref.tell(first)
                sends = []
            else:
                sends = [asyncio.create_task(a.runtime.send(ref, first))]
            await until(lambda: len(a.world.table.rows) == 1)
            sends += [
                asyncio.create_task(b.runtime.send(x, Added(x.correlation_id, n))) for n in MANY
            ]
            await until(lambda: len(a.world.table.rows) == 1 + len(MANY))
            await until(lambda: a.mail.looks > 0)  # it would have been put again
            await b.own(1)
            await asyncio.gather(*sends)
            await until(lambda: not a.world.table.rows)
            assert (await state_of(b.runtime, x)).items == (1, *MANY)

    check()
