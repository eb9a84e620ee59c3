"""Two releases of one application at once, as a deployment replaces one by the other.

The older one does not know what the newer one sends, records and arms. None of it is lost, ends as
a dead letter or is told as failed, and nobody else of the shard waits for it.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from perdure import SagaRef, Settings
from perdure.cluster import Cluster, ClusterSettings
from perdure.ops.health import IssueKind, Thresholds, health
from perdure.ops.inspection import Inspection
from perdure.store.shards import shard_of
from tests.cluster.members import Member, member, owns
from tests.cluster.releases import two
from tests.runtime.support import in_loop, state_of

SHARDS = 16
QUICK = ClusterSettings(beat_s=0.1, lease_s=4.0, absent_s=0.5, poll_s=0.1)


@asynccontextmanager
async def newer(url: str) -> AsyncIterator[Cluster]:
    """This process, of release two."""
    settings = Settings(shutdown_timeout_s=5, snapshot_every=2)
    async with Cluster(url, two.MEMBERS, settings, cluster=QUICK, name="newer") as runtime:
        yield runtime


def older(url: str) -> AbstractAsyncContextManager[Member]:
    """A process of release one."""
    return member(url, "older", QUICK, "tests.cluster.releases.process")


def ids_in(shards: Sequence[int], count: int, saga: str = "release.Order") -> list[str]:
    """So many ids whose instances are all in one of these shards, and the same."""
    found = [n for n in range(2000) if shard_of(f"{saga}/o-{n}", SHARDS) == shards[0]]
    return [f"o-{n}" for n in found[:count]]


async def placed(runtime: Cluster, ids: Sequence[str]) -> list[SagaRef]:
    refs = [runtime.ref(two.Order, id_) for id_ in ids]
    await asyncio.gather(*(runtime.send(ref, two.Placed(ref.correlation_id)) for ref in refs))
    return refs


async def until_state(runtime: Cluster, ref: SagaRef, **wanted: Sequence[Any]) -> None:
    """Wait until the state has these fields; no command has failed."""
    while True:
        state = await state_of(runtime, ref)
        assert state.failed == ()
        if all(getattr(state, name) == value for name, value in wanted.items()):
            return
        await asyncio.sleep(0.02)


async def nothing_is_left(runtime: Cluster, url: str) -> None:
    """No dead letter, no quarantine, no mail, no job."""
    assert [one.type async for one in runtime.dead_letters.list()] == []
    assert [one.error async for one in runtime.quarantined()] == []
    async with Inspection(url) as look:
        assert [one.type async for one in look.mail()] == []
    while await runtime.store.outbox():  # noqa: ASYNC110 - what the store says
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["drained", "killed"])
def test_what_the_owner_does_not_know_waits_in_its_mail_until_it_is_replaced(
    postgres: str, how: signal.Signals
) -> None:
    @in_loop(20)
    async def run() -> None:
        async with older(postgres) as old, newer(postgres) as runtime:
            await old.owns(8)
            await owns(runtime, 8)
            a, b, c = ids_in(old.owned, 3)
            (t,) = ids_in(old.owned, 1, "release.Thanks")
            ref_a, ref_b, ref_c = await placed(runtime, [a, b, c])
            start = asyncio.create_task
            gift = start(runtime.send(ref_a, two.Gift(a), message_id="gift"))
            paid = start(runtime.send(ref_a, two.Paid(a, 1)))  # known, and behind it
            note = start(runtime.send(ref_c, two.Noted(c, "n")))  # known, and without a handler
            thanks = start(runtime.publish(two.Gifted(t)))  # for a new saga
            for _ in range(3):  # nobody else of the shard waits
                await runtime.send(ref_b, two.Paid(b, 1))
            await runtime.enqueue(two.Deliver(b))
            said = await old.mentions("release.Gift", f"release.Order/{a}")
            assert "if this is older code beside newer, end it" in said
            await old.mentions("no handler for release.Noted", f"correlation id '{c}'")
            await old.mentions("release.Gifted", f"release.Thanks/{t}")
            assert not any(task.done() for task in (gift, paid, note, thanks))
            await seen(postgres, a)
            found = await health(runtime, Thresholds(mail_age=timedelta(milliseconds=1)))
            assert [one.kind for one in found.issues] == [IssueKind.LAG]
            assert "messages in the mail, not taken for" in found.issues[0].text

            old.signal(how)
            await thanks
            receipt = await gift
            assert (receipt.outcome, receipt.sequence_nr) == ("applied", 2)
            assert receipt.reply == two.Wrapped(a)
            assert (await paid).sequence_nr == 3
            assert (await note).outcome == "applied"
            again = await runtime.send(ref_a, two.Gift(a), message_id="gift")
            assert (again.duplicate, again.sequence_nr) == (True, 2)
            await until_state(runtime, ref_a, gifts=("wrapped",), paid=(1,), charged=(1,))
            await until_state(runtime, ref_c, notes=("n",))
            assert (await state_of(runtime, runtime.ref(two.Thanks, t))).said == 1
            await owns(runtime, SHARDS)
            await nothing_is_left(runtime, postgres)

    run()


async def seen(url: str, id_: str) -> None:
    """Whoever looks, without any code, sees what waits."""
    async with Inspection(url) as look:
        (why,) = [one for one in await look.why("release.Order", id_) if one.kind == "mail"]
        assert "2 messages for it are in the mail of shard" in why.text
        assert "is owned by older" in why.text
        assert why.remedy is not None
        assert "may not know the type" in why.remedy
        mail = [one async for one in look.mail()]
        its = [one.type for one in mail if one.correlation_id == id_]
        assert its == ["release.Gift", "release.Paid"]


def test_what_newer_code_has_written_is_kept_while_older_code_owns_it(postgres: str) -> None:
    """A rollback, and the deployment after it."""

    @in_loop(20)
    async def run() -> None:
        a, b, c, d, e, f = ids_in([3], 6)
        async with newer(postgres) as runtime:
            refs = await placed(runtime, [a, b, c, d, e])
            await runtime.send(refs[0], two.Gift(a))
            await runtime.send(refs[0], two.Paid(a, 0))  # a snapshot hides the gift
            await runtime.send(refs[3], two.Noted(d, "x"))
            await runtime.send(refs[3], two.Paid(d, 0))  # a snapshot of a state with other fields
            parked = await runtime.send(runtime.ref(two.Order, f), two.Gift(f))
            assert parked.outcome == "parked"
            await runtime.send(refs[1], two.Noted(b, "later"))  # arms a deadline
            await runtime.send(refs[2], two.Gift(c, delay_s=1.5, thanks=True))  # sends commands
        async with older(postgres) as old:
            await old.owns(SHARDS)
            for n in (1, 2):
                for id_ in (a, b, c, d, e):
                    old.tell(f"Paid {id_} {n}")
            old.tell(f"Placed {f}")
            for id_ in (b, d, e):  # nobody waits for those that it cannot read
                await old.mentions(f"Paid {id_} applied")
            for id_ in (a, c):
                await old.mentions("Paid", id_, "held")
                await old.mentions("ERROR", id_, "quarantined (undecodable)", "release.Gift")
            await old.mentions("Placed", f, "held")
            await old.mentions("ERROR", "deadline 'note' of saga 'release.Order' is kept", b)
            await old.mentions("ERROR", "release.Engrave", "are kept for a process that knows them")
            await old.mentions("WARNING", "nobody performs the jobs", "release.deliveries")
            async with newer(postgres) as runtime:
                await old.owns(8)
                old.signal(signal.SIGTERM)
                await owns(runtime, SHARDS)
                refs = [runtime.ref(two.Order, id_) for id_ in (a, b, c, d, e, f)]
                wrapped, paid = ("wrapped",), (0, 1, 2)
                await until_state(runtime, refs[0], gifts=wrapped, paid=paid, charged=(1, 1, 1))
                await until_state(runtime, refs[1], notes=("later", "note"), paid=(1, 2))
                await until_state(runtime, refs[2], gifts=("delivered", "engraved", *wrapped))
                await until_state(runtime, refs[3], notes=("x",), paid=paid, charged=(1, 1, 1))
                await until_state(runtime, refs[4], paid=(1, 2), charged=(1, 1))
                await until_state(runtime, refs[5], gifts=wrapped)
                thanks = await state_of(runtime, runtime.ref(two.Thanks, c))
                assert thanks.said == 1
                await nothing_is_left(runtime, postgres)

    run()


def test_a_reply_of_newer_code_is_an_error_that_says_that_it_was_applied(postgres: str) -> None:
    @in_loop(20)
    async def run() -> None:
        async with older(postgres) as old, newer(postgres) as runtime:
            await old.owns(8)
            await owns(runtime, 8)
            (a,) = ids_in(sorted(runtime.host.owned), 1)
            (ref,) = await placed(runtime, [a])
            old.tell(f"Paid {a} 100")
            said = await old.mentions(f"Paid {a} UnknownType")
            assert "release.Paid was taken in turn 2, and the reply cannot be read here" in said
            assert f"(saga 'release.Order', correlation id '{a}')" in said
            old.tell(f"Paid {a} 1")  # the next one is not held up
            await old.mentions(f"Paid {a} applied 2")
            await until_state(runtime, ref, paid=(100, 1))

    run()
