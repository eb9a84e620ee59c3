"""From when on something about a runtime is worth a word, and from when on it is an alarm.

    Thresholds(
        max_process_age=timedelta(days=30),
        sagas={"Order": SagaThresholds(failure_rate=0.02, average_duration=timedelta(minutes=5))},
    )

The thresholds of the seed's ``ProcessHealthCheck`` are here under their names, with those for what
carries the processes beside them. Plain values; ``health.py`` compares facts with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta

from perdure.errors import DefinitionError

__all__ = ["SagaThresholds", "Thresholds"]

GIGABYTE = 1024**3


@dataclass(frozen=True, kw_only=True)
class SagaThresholds:
    """What is expected of the processes of one saga; None: no such threshold.

        SagaThresholds(failure_rate=0.02, stuck_process_age=timedelta(hours=6))

    ``failure_rate`` (0 to 1) of those that ended last, see ``Thresholds.sample``; from
    ``critical_failure_rate`` on it is an alarm. ``average_duration`` of the completed ones among
    them. A process appears stuck if its status is "stuck", or if it runs and nothing has happened
    to it for ``stuck_process_age``; it is too old if it began more than ``max_process_age`` ago and
    has not ended.

    Raises ``DefinitionError`` for what is no rate and no duration above zero.
    """

    failure_rate: float | None = 0.1
    critical_failure_rate: float | None = 0.5
    average_duration: timedelta | None = None
    stuck_process_age: timedelta | None = timedelta(days=7)
    max_process_age: timedelta | None = None

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            if value is not None or "None" not in str(entry.type):
                _check(entry.name, value, _KINDS.get(entry.name, "count"))


@dataclass(frozen=True, kw_only=True)
class Thresholds(SagaThresholds):
    """What is expected of a runtime and its store; the rates and ages, of every saga.

        await health(runtime, Thresholds(failure_rate=0.05, max_retry_count=3))

    ``sagas`` are the sagas of which something else is expected, by name, each wholly.

    The failure rate and the average duration are of the last ``sample`` processes of the saga that
    ended, provided that at least ``sample_min`` have.

    ``max_retry_count``: a job with more attempts behind it is an issue. ``lag``: a deadline or a
    message that is due, or a job that may start, should not wait for longer; from ``critical_lag``
    on it is an alarm. (The jobs of a paused queue wait for its resumption, and have no lag.)
    ``mail_age``: the owner of a shard should take what was mailed to it within this time.
    ``dead_letters`` and ``quarantined``: so many are worth a word. ``saturation`` (0 to 1) of the
    messages that may be in flight.

    ``answer_time``: the store should answer, and end a write, within it; within
    ``critical_answer_time`` it must. ``disk_free`` bytes should be free on its disk, below
    ``critical_disk_free`` it is an alarm. ``blocked_within``: user code that has blocked the event
    loop in this last time is worth a word. ``loop_failures``: background work of the runtime that
    failed so often in a row is an alarm; one that failed once is worth a word.
    """

    sagas: Mapping[str, SagaThresholds] = field(default_factory=dict)
    sample: int = 500
    sample_min: int = 10
    max_retry_count: int | None = 5
    lag: timedelta | None = timedelta(minutes=1)
    critical_lag: timedelta | None = timedelta(minutes=15)
    mail_age: timedelta | None = timedelta(seconds=10)
    dead_letters: int | None = 1
    quarantined: int | None = 1
    saturation: float | None = 0.8
    answer_time: timedelta = timedelta(seconds=1)
    critical_answer_time: timedelta = timedelta(seconds=5)
    disk_free: int | None = GIGABYTE
    critical_disk_free: int | None = GIGABYTE // 10
    blocked_within: timedelta | None = timedelta(minutes=1)
    loop_failures: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, expected in self.sagas.items():
            if not isinstance(name, str) or not isinstance(expected, SagaThresholds):
                raise DefinitionError(
                    f"thresholds of {name!r} are {expected!r}",
                    remedy='give the sagas by name, as {"Order": SagaThresholds(…)}',
                )

    def of(self, saga: str) -> SagaThresholds:
        """What is expected of this saga."""
        return self.sagas.get(saga, self)


_KINDS = {
    "failure_rate": "rate",
    "critical_failure_rate": "rate",
    "saturation": "rate",
    "sagas": "sagas",
    "blocked_within": "time",
    "average_duration": "time",
    "stuck_process_age": "time",
    "max_process_age": "time",
    "lag": "time",
    "mail_age": "time",
    "critical_lag": "time",
    "answer_time": "time",
    "critical_answer_time": "time",
}
"""What a threshold is; the others are counts."""


def _check(name: str, value: object, kind: str) -> None:
    if kind == "rate":
        fits = type(value) in (int, float) and 0 <= value <= 1  # type: ignore[operator]
        wanted = "a number from 0 to 1"
    elif kind == "time":
        fits = isinstance(value, timedelta) and value > timedelta(0)
        wanted = "a timedelta above zero"
    elif kind == "sagas":
        fits = isinstance(value, Mapping)
        wanted = 'sagas by name, as {"Order": SagaThresholds(…)}'
    else:
        fits = type(value) is int and value >= 0
        wanted = "a whole number, not below zero"
    if not fits:
        raise DefinitionError(f"threshold {name} is {value!r}", remedy=f"give {wanted}")
