"""What is tried again after a pause is tried until it has succeeded, and not once more."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from perdure.runtime.jobs.pauses import Pauses
from perdure.runtime.supervised import growing_s, insist
from perdure.settings import Settings
from perdure.testing import SimulatedClock
from tests.runtime.support import quickly

PAUSE = timedelta(seconds=1)


@pytest.mark.parametrize("failures", [0, 1, 2, 3])
@quickly
async def test_what_the_end_of_the_pauses_has_done_is_not_done_again(failures, caplog):
    clock = SimulatedClock()
    settings = Settings(retry_pause_s=PAUSE.total_seconds())

    def pause(what: str, function: Any, failed: int) -> Any:
        call = insist(clock, settings.retry_pause_s, what, function)
        return clock.call_later(growing_s(settings.retry_pause_s, failed), call)

    services: Any = SimpleNamespace(clock=clock, settings=settings, pause=pause)
    pauses = Pauses(services)
    calls = 0

    def work() -> None:
        nonlocal calls
        calls += 1
        if calls <= failures:
            raise ValueError

    pauses.begin(7, "a retry", work)
    if failures:
        await clock.advance(PAUSE)  # it fails once: the clock insists
        assert calls == 1
    pauses.end_all()  # the end insists likewise
    await clock.advance(1_000 * PAUSE)
    assert calls == failures + 1
    assert 7 not in pauses
    assert "KeyError" not in caplog.text
