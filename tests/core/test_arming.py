"""When a deadline is due, and which ones may be set."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from perdure.core.arming import due_at_ms
from perdure.core.outcome import TIMEOUT
from perdure.effects import SetDeadline
from perdure.errors import InvalidEffect
from perdure.messages import datetime_of

NOW_MS = 1_750_000_000_000
HOUR = timedelta(hours=1)
MICROSECOND = timedelta(microseconds=1)


@pytest.mark.parametrize("known", [None, {"pick"}])
@pytest.mark.parametrize(
    ("effect", "due_ms"),
    [
        (SetDeadline("pick", HOUR), NOW_MS + 3_600_000),
        (SetDeadline("pick", timedelta(0)), NOW_MS),
        (SetDeadline("pick", MICROSECOND), NOW_MS + 1),
        (SetDeadline("pick", at=datetime_of(NOW_MS)), NOW_MS),
        (SetDeadline("pick", at=datetime_of(NOW_MS) + MICROSECOND), NOW_MS + 1),
        (SetDeadline("pick", at=datetime_of(NOW_MS) - HOUR), NOW_MS - 3_600_000),
        (
            SetDeadline("pick", at=datetime(2026, 1, 1, 2, tzinfo=timezone(2 * HOUR))),
            int(datetime(2026, 1, 1, tzinfo=UTC).timestamp() * 1000),
        ),
        (SetDeadline(TIMEOUT, HOUR), NOW_MS + 3_600_000),
    ],
)
def test_a_deadline_is_due_never_early_and_may_lie_in_the_past_if_it_names_a_moment(
    effect: SetDeadline, due_ms: int, known: Any
) -> None:
    assert due_at_ms(effect, known, NOW_MS) == due_ms


@pytest.mark.parametrize(
    ("effect", "said"),
    [
        (SetDeadline("pik", HOUR), r"'pik' has no handler; .*@on_deadline\('pik'\).* pick, ship"),
        (SetDeadline("pick", -MICROSECOND), "not below zero"),
        (SetDeadline("pick", timedelta(-1)), r"'pick' is set after .*; give a timedelta, not"),
        (SetDeadline("pick", 5), "is set after 5"),  # type: ignore[arg-type]
        (SetDeadline("pick"), "exactly one of after= and at="),
        (SetDeadline("pick", HOUR, datetime_of(0)), "exactly one of after= and at="),
        (SetDeadline("pick", at=datetime(2026, 1, 1)), "the naive datetime 2026"),
        (SetDeadline("pick", at=5), "is set to the 5"),  # type: ignore[arg-type]
        (SetDeadline("pick", timedelta.max), "beyond the calendar"),
        (SetDeadline("pick", at=datetime_of(-1)), "beyond the calendar"),
        (SetDeadline("", HOUR), "'' is no name"),
        (SetDeadline("x" * 201, HOUR), "is no name"),
        (SetDeadline(None, HOUR), "None is no name"),  # type: ignore[arg-type]
        (SetDeadline("perdure.mine", HOUR), "begins with 'perdure.'"),
    ],
)
def test_what_is_no_deadline_is_refused_with_what_to_give(effect: SetDeadline, said: str) -> None:
    with pytest.raises(InvalidEffect, match=said) as caught:
        due_at_ms(effect, {"pick", "ship"}, NOW_MS)
    assert caught.value.remedy is not None


def test_where_nobody_handles_any_the_name_to_declare_is_said() -> None:
    with pytest.raises(InvalidEffect, match=r"declare one with @on_deadline\('pick'\)$"):
        due_at_ms(SetDeadline("pick", HOUR), frozenset(), NOW_MS)
