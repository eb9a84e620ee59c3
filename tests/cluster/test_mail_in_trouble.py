"""Mail that is odd, or large, or comes to code that cannot read it: nothing else waits for it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from perdure import SagaRef, errors
from perdure.cluster import intake, mailed, posting
from perdure.codec.codec import Codec
from tests.cluster.pods import Pod, cluster, key_in
from tests.runtime.support import quickly, state_of, until
from tests.sagas import Added, Ledger, Opened


def ref(pod: Pod, shard: int, stem: str = "x") -> SagaRef:
    return pod.runtime.ref(Ledger, key_in(shard, stem=stem))


def send(pod: Pod, to: SagaRef, n: int) -> asyncio.Task[object]:
    content = Added(to.correlation_id, n) if n else Opened(to.correlation_id)
    return asyncio.create_task(pod.runtime.send(to, content, message_id=f"{to.key}-{n}"))


@quickly
async def test_an_answer_that_cannot_be_read_here_is_an_error_and_holds_up_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The owner runs newer code, whose reply nobody knows here; then the shard comes here."""

    def unknown(self: Codec, packed: bytes) -> Any:
        raise errors.UnknownMessageType("nobody knows it")

    async with cluster(2) as (a, b):
        await b.own(1)
        x = ref(a, 1)
        await send(a, x, 0)
        with monkeypatch.context() as patched:
            patched.setattr(Codec, "decode_value", unknown)
            with pytest.raises(errors.UnknownMessageType):
                await send(a, x, 1)
        await b.leave(1)
        await a.own(1)
        await a.caught_up()
        before = a.world.table.last
        await send(a, x, 2)
        assert a.world.table.last == before  # by hand: its lane is free
        assert (await state_of(a.runtime, x)).items == (1, 2)


@quickly
async def test_a_row_that_fails_in_an_unforeseen_way_waits_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with cluster(2, poll_s=0.01) as (a, b):
        await b.own(1)
        x, y = ref(a, 1), ref(a, 1, "y")
        bring = mailed.bring

        def failing(taken: Any, row: Any) -> None:
            if row.instance == x.key:
                raise RecursionError("a decoder that is none of ours")
            bring(taken, row)

        monkeypatch.setattr(intake, "bring", failing)
        monkeypatch.setattr(intake, "UNREADABLE_S", 0.01)
        waiting = send(a, x, 0)
        await send(a, y, 0)
        assert not waiting.done()
        monkeypatch.setattr(intake, "bring", bring)
        await waiting


@quickly
async def test_a_takeover_brings_no_more_again_than_an_instance_remembers() -> None:
    """Rows of what was applied could not be removed before the owner was killed."""
    async with cluster(3, processed_window=5) as (a, b, c):
        await b.own(1)
        x = ref(a, 1)
        await send(a, x, 0)
        await until(lambda: not a.world.table.rows)
        b.mail.unremoved = 1_000_000
        sends = [send(a, x, n) for n in range(1, 41)]
        await until(lambda: b.mail.unremoved < 1_000_000)
        b.kill()
        await c.own(1)
        await asyncio.gather(*sends)
        await until(lambda: not a.world.table.rows)
        assert (await state_of(c.runtime, ref(c, 1))).items == tuple(range(1, 41))


@quickly
async def test_large_messages_are_posted_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(posting, "GROUP_BYTES_MAX", 1_000)
    async with cluster(2) as (a, b):
        await b.own(1)
        x = ref(a, 1)
        await send(a, x, 0)
        sizes: list[int] = []
        put = a.mail.put

        async def counting(rows: Any, bells: Any = None) -> list[int]:
            sizes.append(sum(len(row.body) for row in rows))
            return await put(rows, bells)

        monkeypatch.setattr(a.mail, "put", counting)
        sends = [send(a, x, n) for n in range(1, 200)]
        await asyncio.gather(*sends)
        assert max(sizes) < 1_500
        assert (await state_of(a.runtime, x)).items == tuple(range(1, 200))
