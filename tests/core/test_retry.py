"""Retry policies: the exact delays, their bounds, and no nonsense."""

import math
import random
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure import Job
from perdure.core.queue_policy import QueuePolicy, Rate
from perdure.core.retry import DELAY_MAX_S, Exponential, Fixed, Linear, RetryPolicy
from perdure.errors import DefinitionError, RetryLater

seconds = st.floats(0.001, 10_000)
jitters = st.floats(0, 1)
attempts_made = st.integers(1, 200) | st.sampled_from([10_000, 10**6, 10**400])
randoms = st.floats(0, 1, exclude_max=True)


@st.composite
def policies(draw: st.DrawFn, jitter: st.SearchStrategy[float] = jitters) -> RetryPolicy:
    initial_s = draw(seconds)
    max_s = initial_s + draw(seconds)
    spread = draw(jitter)
    kind = draw(st.sampled_from([Fixed, Linear, Exponential]))
    if kind is Fixed:
        return Fixed(initial_s, jitter=spread)
    if kind is Linear:
        return Linear(initial_s, draw(st.just(0.0) | seconds), max_s=max_s, jitter=spread)
    factor = draw(st.floats(1, 20) | st.integers(1, 1_000_000))
    return Exponential(initial_s, factor=factor, max_s=max_s, jitter=spread)


@given(policies(), attempts_made, randoms)
def test_a_delay_stays_within_its_bounds(policy: RetryPolicy, attempts: int, chance: float) -> None:
    delay_s = policy.next_delay_s(attempts, chance)
    plain_s = min(policy.plain_delay_s(attempts), policy.longest_s)
    assert 0 <= delay_s <= policy.longest_s
    assert plain_s * (1 - policy.jitter) <= delay_s <= plain_s * (1 + policy.jitter)
    assert policy.next_delay_ms(attempts, chance) == math.ceil(delay_s * 1000)


@given(policies(jitter=st.just(0.0)), attempts_made, attempts_made, randoms)
def test_without_jitter_delays_never_shrink(
    policy: RetryPolicy, one: int, other: int, chance: float
) -> None:
    earlier, later = sorted([one, other])
    assert policy.next_delay_s(earlier, chance) <= policy.next_delay_s(later, chance)
    assert policy.next_delay_s(one, chance) == policy.next_delay_s(one)


@given(policies(), st.integers(1, 100), st.integers(0, 2**32))
def test_seeded_jitter_gives_the_documented_delay(
    policy: RetryPolicy, attempts: int, seed: int
) -> None:
    chance = random.Random(seed).random()
    plain_s = min(policy.plain_delay_s(attempts), policy.longest_s)
    expected = min(plain_s * (1 + policy.jitter * (2 * chance - 1)), policy.longest_s)
    assert policy.next_delay_s(attempts, chance) == expected


@pytest.mark.parametrize(
    ("policy", "delays"),
    [
        (Fixed(30), [30, 30, 30, 30]),
        (Fixed(0), [0, 0, 0, 0]),
        (Linear(10, 5, max_s=22), [10, 15, 20, 22]),
        (Linear(7, 0), [7, 7, 7, 7]),
        (Exponential(0.2, jitter=0), [0.2, 0.4, 0.8, 1.6]),
        (Exponential(1, factor=3, max_s=20, jitter=0), [1, 3, 9, 20]),
        (Exponential(5, factor=1, jitter=0), [5, 5, 5, 5]),
    ],
)
def test_delays_without_jitter(policy: RetryPolicy, delays: list[float]) -> None:
    assert [policy.next_delay_s(n) for n in (1, 2, 3, 4)] == delays


def test_jitter_spreads_to_both_sides_and_below_the_cap() -> None:
    policy = Exponential(10, max_s=20, jitter=0.5)
    assert [policy.next_delay_s(1, chance) for chance in (0, 0.25, 0.5, 0.75)] == [5, 7.5, 10, 12.5]
    assert [policy.next_delay_s(9, chance) for chance in (0, 0.25, 0.5, 0.75)] == [10, 15, 20, 20]


@pytest.mark.parametrize(
    ("policy", "delay_s"),
    [
        (Exponential(1, factor=2, max_s=60, jitter=0), 60),
        (Exponential(0.001, factor=1_000_000, max_s=60, jitter=0), 60),
        (Exponential(3, factor=1, jitter=0), 3),
        (Linear(3, 0), 3),
        (Linear(3, 0.5, max_s=60), 60),
        (Fixed(3), 3),
    ],
)
@pytest.mark.parametrize("attempts", [10_000, 10**6, 10**400])
def test_after_any_number_of_attempts_there_is_a_delay(
    policy: RetryPolicy, delay_s: float, attempts: int
) -> None:
    assert policy.next_delay_s(attempts) == delay_s


def test_attempts_are_counted_all_together() -> None:
    assert [Fixed(1, max_attempts=3).should_retry(n) for n in (1, 2, 3, 4)] == [
        True,
        True,
        False,
        False,
    ]
    assert not Fixed(0, max_attempts=1).should_retry(1)
    assert Linear(1, 1).should_retry(4)
    assert not Linear(1, 1).should_retry(5)
    assert Exponential(max_attempts=None).should_retry(10**400)


NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("make", "field"),
    [
        *[
            (lambda bad=bad: Fixed(bad), r"Fixed\.delay_s")
            for bad in (-1, -0.001, NAN, INF, -INF, True, "1", None, [1], 1e300, 10**400)
        ],
        (lambda: Fixed(1, jitter=1.01), r"Fixed\.jitter"),
        (lambda: Fixed(1, jitter=-0.1), r"Fixed\.jitter"),
        (lambda: Fixed(1, jitter=NAN), r"Fixed\.jitter"),
        (lambda: Fixed(1, jitter=True), r"Fixed\.jitter"),
        *[
            (lambda bad=bad: Exponential(max_attempts=bad), r"Exponential\.max_attempts")
            for bad in (0, -1, 1.5, 3.0, True, "3", NAN, INF, 10**30)
        ],
        (lambda: Linear(-1, 1), r"Linear\.initial_s"),
        (lambda: Linear("1", 1), r"Linear\.initial_s"),  # type: ignore[arg-type]
        (lambda: Linear(1, -1), r"Linear\.increment_s"),
        (lambda: Linear(1, NAN), r"Linear\.increment_s"),
        (lambda: Linear(10, 1, max_s=9), r"Linear\.max_s"),
        (lambda: Linear(1, 1, max_s=INF), r"Linear\.max_s"),
        (lambda: Linear(1, 1, jitter=2), r"Linear\.jitter"),
        (lambda: Exponential(0), r"Exponential\.initial_s"),
        (lambda: Exponential(-1), r"Exponential\.initial_s"),
        (lambda: Exponential(factor=0.99), r"Exponential\.factor"),
        (lambda: Exponential(factor=NAN), r"Exponential\.factor"),
        (lambda: Exponential(factor=INF), r"Exponential\.factor"),
        (lambda: Exponential(factor=False), r"Exponential\.factor"),
        (lambda: Exponential(10, max_s=9.5), r"Exponential\.max_s"),
        (lambda: Exponential(max_s=NAN), r"Exponential\.max_s"),
        (lambda: Exponential(jitter=1.5), r"Exponential\.jitter"),
    ],
)
def test_nonsense_is_refused_by_its_name_with_what_to_give(make: Any, field: str) -> None:
    with pytest.raises(
        DefinitionError, match=rf"^{field}.*; give a (whole )?number from"
    ) as raised:
        make()
    assert raised.value.remedy is not None


def test_a_cap_below_the_first_delay_is_refused_with_the_least_one() -> None:
    with pytest.raises(DefinitionError, match="give a number from 10 to"):
        Linear(10, 1, max_s=9)
    assert Linear(10, 1, max_s=10).next_delay_s(7) == 10


def test_no_delay_is_longer_than_a_moment_can_say() -> None:
    longest = Fixed(DELAY_MAX_S, jitter=1)
    assert longest.next_delay_s(1, 0.999) == DELAY_MAX_S
    assert longest.next_delay_ms(1) < 2**63 - 1


@pytest.mark.parametrize(
    "make",
    [
        Fixed,
        Exponential,
        lambda wrong: QueuePolicy(name="q", lease_s=wrong),
        lambda wrong: Rate(1, per_s=wrong),
        lambda wrong: Job().extend(wrong),
        lambda wrong: RetryLater("busy", after_s=wrong),
    ],
)
def test_who_gives_a_timedelta_is_told_that_seconds_are_wanted(make: Any) -> None:
    with pytest.raises(DefinitionError, match=r"timedelta.*; give a number .* \(seconds\)$"):
        make(timedelta(minutes=1))


def test_policies_are_values() -> None:
    assert Exponential(1, max_attempts=3) == Exponential(1.0, max_attempts=3)
    assert hash(Fixed(1)) == hash(Fixed(1))
    with pytest.raises(AttributeError):
        Fixed(1).delay_s = 2  # type: ignore[misc]
