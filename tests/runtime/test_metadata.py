"""What user code learns of a message beside its content, live and when it is folded again."""

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest

from perdure import (
    Effects,
    MemoryStore,
    Metadata,
    ProcessManager,
    Runtime,
    Settings,
    Start,
    Status,
    applies,
    errors,
    message,
    starts,
)
from perdure.runtime.ids import unique_ids
from perdure.testing import SimulatedClock

from .support import quickly


@message(name="metadata-test.seen")
class Seen:
    id: str
    fails: bool = False


@dataclass(frozen=True)
class SeenState:
    notes: tuple[tuple[str, ...], ...] = ()


class Watcher(ProcessManager[SeenState]):
    name = "metadata-test.Watcher"

    @starts(
        Seen, by=lambda event, metadata: f"{metadata.causation_id}-{metadata.headers['tenant']}"
    )
    def seen(self, state: SeenState, event: Seen, do: Effects) -> None:
        do.reply(do.now.isoformat())

    @applies(Seen)
    def note(self, state: SeenState, event: Seen, metadata: Metadata) -> SeenState:
        told = (
            metadata.message_id,
            metadata.correlation_id or "",
            metadata.causation_id or "",
            str(metadata.headers),
            metadata.sent_at.isoformat(),
            metadata.occurred_at.isoformat(),
            metadata.instance_id,
            str(metadata.sequence_nr),
        )
        return replace(state, notes=(*state.notes, told))


@quickly
async def test_an_applier_is_told_the_same_live_and_on_rehydration():
    store, clock = MemoryStore(), SimulatedClock()
    told: dict[str, Any] = {
        "correlation_id": "cart-7",
        "causation_id": "click-1",
        "headers": {"tenant": "t"},
    }
    async with Runtime(store, [Watcher], clock=clock) as runtime:
        for _ in range(3):
            await runtime.publish(Seen("a"), **told)
            await clock.advance(timedelta(seconds=1))
        live = await runtime.state(runtime.ref(Watcher, "click-1-t"))
        assert live is not None
        assert live.started_at + timedelta(seconds=2) == live.updated_at
    async with Runtime(store, [Watcher], clock=clock) as runtime:
        again = await runtime.state(runtime.ref(Watcher, "click-1-t"))
    assert again == live
    assert live.state.notes[1][1:4] == ("cart-7", "click-1", "{'tenant': 't'}")
    assert live.state.notes[1][6:] == ("click-1-t", "2")


class Careless(ProcessManager[SeenState]):
    name = "metadata-test.Careless"

    @starts(Seen, by="id")
    def seen(self, state: SeenState, event: Seen, do: Effects) -> None:
        if event.fails:
            raise ValueError("careless")


class Sound(Careless):
    name = "metadata-test.Sound"

    @starts(Seen, by="id")
    def seen(self, state: SeenState, event: Seen, do: Effects) -> None: ...


@quickly
async def test_one_failing_saga_does_not_keep_a_published_event_from_another():
    async with Runtime(MemoryStore(), [Careless, Sound]) as runtime:
        with pytest.raises(errors.PublishFailed) as caught:
            await runtime.publish(Seen("a", fails=True), message_id="m")
        failed, applied = caught.value.outcomes
        assert isinstance(failed, errors.HandlerFailed)
        assert applied.saga == Sound.name
        assert await runtime.state(runtime.ref(Sound, "a")) is not None
        assert await runtime.state(runtime.ref(Careless, "a")) is None


class Choosy(ProcessManager[SeenState]):
    name = "metadata-test.Choosy"

    def interested_in(self):
        return [Seen]

    def correlate(self, event, metadata):
        raise KeyError(event.id)

    def handle(self, state, event, metadata):
        return None


@quickly
async def test_a_correlation_that_raises_refuses_the_event_for_all():
    async with Runtime(MemoryStore(), [Sound, Choosy]) as runtime:
        with pytest.raises(errors.CorrelationFailed) as caught:
            await runtime.publish(Seen("a"))
        assert caught.value.saga == Choosy.name
        assert await runtime.state(runtime.ref(Sound, "a")) is None


class ByHand(ProcessManager[SeenState]):
    name = "metadata-test.ByHand"
    timeout = timedelta(minutes=15)

    def interested_in(self):
        return [Seen]

    def correlate(self, event, metadata):
        return Start(event.id)

    def handle(self, state, event, metadata):
        return None


@quickly
async def test_a_saga_written_by_hand_times_out_unless_it_says_otherwise():
    clock = SimulatedClock()
    async with Runtime(MemoryStore(), [ByHand], clock=clock) as runtime:
        await runtime.publish(Seen("a"))
        await clock.advance(timedelta(minutes=15))
        view = await runtime.state(runtime.ref(ByHand, "a"))
        assert view is not None
        assert (view.status, view.failure) == (Status.FAILED, "timed out")


class Patient(ByHand):
    name = "metadata-test.Patient"

    def handle(self, state, event, metadata):
        return []


@quickly
async def test_a_saga_written_by_hand_may_stay_after_its_timeout():
    clock = SimulatedClock()
    async with Runtime(MemoryStore(), [Patient], clock=clock) as runtime:
        await runtime.publish(Seen("a"))
        await clock.advance(timedelta(minutes=15))
        view = await runtime.state(runtime.ref(Patient, "a"))
        assert view is not None
        assert view.status is Status.RUNNING


@quickly
async def test_a_repeated_message_is_answered_before_what_is_due_has_its_turn():
    clock = SimulatedClock()
    store = MemoryStore()
    settings = Settings(idle_after_s=None)
    async with Runtime(store, [ByHand], settings, clock=clock) as runtime:
        await runtime.publish(Seen("a"), message_id="m")
        clock._now_ms += 3_600_000  # overdue, and the timer has not come round yet
        (receipt,) = await runtime.publish(Seen("a"), message_id="m")
        entries = [entry async for entry in runtime.history(runtime.ref(ByHand, "a"))]
    assert receipt.duplicate
    assert len(entries) == 1


def test_ids_of_two_runtimes_never_meet():
    one, other = unique_ids(), unique_ids()
    made = {one() for _ in range(1_000)} | {other() for _ in range(1_000)}
    assert len(made) == 2_000
    assert unique_ids(lambda n: b"\0" * n)() == "00000000000000000000-1"
