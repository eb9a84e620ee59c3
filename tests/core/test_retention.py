"""What a saga may say of how long its instances are kept."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from perdure import (
    Approvals,
    Context,
    OrderedSaga,
    ProcessManager,
    Retention,
    Workflow,
    message,
    starts,
    workflow,
)
from perdure.core.commit import Status
from perdure.errors import DefinitionError
from perdure.process_manager import define

DAY_MS = 86_400_000

anyhow: Any = Retention


@message(name="retention.begun")
class Begun:
    id: str


@dataclass(frozen=True)
class State:
    n: int = 0


def kept(retention):
    return {status.value: retention.kept_ms(status) for status in Status}


def test_by_default_all_are_kept():
    nobody = dict.fromkeys(("running", "stuck", "completed", "failed"))
    assert kept(Retention.keep()) == kept(Retention()) == nobody


def test_those_that_have_ended_are_kept_for_a_time():
    month = Retention.keep_for(timedelta(days=30), tombstone=timedelta(days=2))
    assert month.kept_ms(Status.COMPLETED) == month.kept_ms(Status.FAILED) == 30 * DAY_MS
    assert month.kept_ms(Status.RUNNING) is month.kept_ms(Status.STUCK) is None
    assert month.tombstone_ms == 2 * DAY_MS


def test_those_that_failed_have_a_time_of_their_own():
    longer = Retention.delete(failed=timedelta(days=1))
    assert (longer.kept_ms(Status.COMPLETED), longer.kept_ms(Status.FAILED)) == (0, DAY_MS)
    assert Retention.delete(failed="keep").kept_ms(Status.FAILED) is None
    assert Retention.keep_for(timedelta(1), failed="keep").kept_ms(Status.COMPLETED) == DAY_MS


@pytest.mark.parametrize(
    "make",
    [
        lambda: anyhow.keep_for(30),
        lambda: anyhow.keep_for(timedelta(days=-1)),
        lambda: anyhow.keep_for(timedelta(days=365 * 200)),
        lambda: anyhow.keep_for(None),
        lambda: anyhow.delete(failed="for ever"),
        lambda: anyhow.delete(failed=3),
        lambda: anyhow.delete(tombstone=timedelta(0)),
        lambda: anyhow.delete(tombstone=None),
        lambda: anyhow.delete(tombstone=timedelta(seconds=-1)),
    ],
)
def test_what_is_no_time_is_refused(make):
    with pytest.raises(DefinitionError, match="give a timedelta"):
        make()


def test_each_face_has_it():
    month = Retention.keep_for(timedelta(days=30))

    class Manager(ProcessManager[State]):
        retention = month

        @starts(Begun, by="id")
        def begun(self, state, event, do): ...

    class Voting(Approvals):
        name = Approvals.name
        retention = month

    async def step(begun: Begun) -> None: ...

    @workflow("w", Begun, by="id", retention=month)
    async def coroutine(ctx: Context, begun: Begun) -> None: ...

    ordered = OrderedSaga("o", Begun, by="id", retention=month)
    ordered.step(nothing_to_undo=True)(step)
    listed = Workflow("l", Begun, by="id", steps=[step], retention=month)
    found = [define(Manager), define(Voting)]
    found += [one.definition() for one in (coroutine, ordered, listed)]
    assert [one.retention for one in found] == [month] * 5
    assert found[1].name == "perdure.approvals"


@pytest.mark.parametrize("wrong", [timedelta(days=30), "keep", Retention.keep, 30])
def test_what_is_no_retention_is_refused(wrong):
    class Manager(ProcessManager[State]):
        retention = wrong

        @starts(Begun, by="id")
        def begun(self, state, event, do): ...

    with pytest.raises(DefinitionError, match="with its parentheses"):
        define(Manager)
    with pytest.raises(DefinitionError, match="saga 'o'"):
        OrderedSaga("o", Begun, by="id", retention=wrong)
