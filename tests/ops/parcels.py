"""A saga with commands, deadlines and failures, to be traced. Names begin with "ops-test."."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, ClassVar

from opentelemetry import trace

from perdure import (
    DeadlineReached,
    Effects,
    Fixed,
    Job,
    Metadata,
    ProcessManager,
    RetryPolicy,
    WorkQueue,
    applies,
    continues,
    message,
    on_deadline,
    starts,
)


@message(name="ops-test.Ordered")
class Ordered:
    id: str


@message(name="ops-test.Pack")
class Pack:
    id: str


@message(name="ops-test.Packed")
class Packed:
    id: str


@message(name="ops-test.Weighed")
class Weighed:
    id: str


@message(name="ops-test.Damaged")
class Damaged:
    id: str


@message(name="ops-test.Drive")
class Drive:
    id: str


@message(name="ops-test.Driven")
class Driven:
    id: str


@dataclass(frozen=True)
class ParcelState:
    heard: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()


RAISES: list[BaseException] = []
"""What ``Damaged`` raises, one after another; then it is handled."""


CURRENT: list[tuple[str, trace.SpanContext]] = []
"""Whose span was current in which handler: "Packed p-1"."""


def note_current(event: Packed | Weighed) -> None:
    context = trace.get_current_span().get_span_context()
    CURRENT.append((f"{type(event).__name__} {event.id}", context))


class Parcel(ProcessManager[ParcelState]):
    """Packed, collected when the deadline says so, driven."""

    name: ClassVar[str] = "parcel"
    retry: ClassVar[RetryPolicy | None] = Fixed(10, max_attempts=3)

    @starts(Ordered, by="id")
    def ordered(self, state: ParcelState, event: Ordered, do: Effects) -> None:
        do.send(Pack(event.id))
        do.deadline("collect", timedelta(hours=4))

    @continues(Packed, by="id")
    def packed(self, state: ParcelState, event: Packed, do: Effects) -> None:
        note_current(event)

    @continues(Weighed, by="id")
    def weighed(self, state: ParcelState, event: Weighed, do: Effects) -> None:
        note_current(event)
        do.reply("light")

    @continues(Damaged, by="id")
    def damaged(self, state: ParcelState, event: Damaged, do: Effects) -> None:
        if RAISES:
            raise RAISES.pop(0)

    @on_deadline("collect")
    def collect(self, state: ParcelState, do: Effects) -> None:
        if RAISES:
            raise RAISES.pop(0)
        do.send(Drive(do.metadata.instance_id))

    @continues(Driven, by="id")
    def driven(self, state: ParcelState, event: Driven, do: Effects) -> None:
        do.complete()

    @applies(Ordered, Packed, Weighed, Driven)
    def hear(self, state: ParcelState, event: Any, metadata: Metadata) -> ParcelState:
        seen = ",".join(f"{name}={text}" for name, text in sorted((metadata.headers or {}).items()))
        return ParcelState((*state.heard, type(event).__name__), (*state.headers, seen))

    @applies(DeadlineReached)
    def hear_deadline(self, state: ParcelState, event: DeadlineReached) -> ParcelState:
        return replace(state, heard=(*state.heard, event.name))


class Tough(Parcel):
    """Whose failures are not tried again."""

    name: ClassVar[str] = "tough"
    retry: ClassVar[RetryPolicy | None] = None


def depot(pack: Callable[[Pack, Job], Any] | None = None, retry: Fixed | None = None) -> WorkQueue:
    """Workers on the loop; ``pack`` may do something of its own."""
    queue = WorkQueue("depot", retry=retry or Fixed(0.001, max_attempts=3))

    @queue.worker
    async def packing(command: Pack, job: Job) -> Packed:
        if pack is not None:
            pack(command, job)
        return Packed(command.id)

    @queue.worker
    async def driving(command: Drive) -> Driven:
        return Driven(command.id)

    return queue
