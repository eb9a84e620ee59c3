"""What stands as it stands: from the store's figures, and from the parts of a running runtime.

Everything read of a runtime here is a number or a copy made in one step, so that any thread may
ask. Next to read: ``prometheus.py``, which shows it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

from perdure.core.correlation import split_key
from perdure.core.outgoing import SAGAS
from perdure.core.tally import TallyRow
from perdure.runtime.running import Running
from perdure.store.backlog import Backlog

__all__ = ["gauges_of"]

Shown: TypeAlias = dict[str, dict[tuple[str, ...], Any]]

TO_SAGAS, OTHERS = "(sagas)", "(others)"
"""What is on its way to the sagas themselves; queues that this runtime does not perform."""


def gauges_of(
    running: Running | None,
    runnings: Sequence[Running],
    sagas: Sequence[str],
    tallies: Iterable[TallyRow],
    backlog: Backlog | None,
    size_bytes: int | None,
    shown: Shown,
) -> None:
    """Add to ``shown`` what is known.

    ``running`` is what takes messages; ``runnings`` have the instances and the workers: itself, or
    in a cluster the runtimes of the shards that are in this process.
    """
    if size_bytes is not None:
        _processes(sagas, tallies, shown)
        shown["store_size_bytes"] = {(): size_bytes}
    if running is None:
        return
    if backlog is not None:
        _waiting(running, backlog, shown)
    _residents(running, runnings, sagas, shown)
    if running.services.spans is not None:
        left_out = {id(one.services.spans): one.services.spans for one in (running, *runnings)}
        shown["spans_left_out"] = {(): sum(each.left_out for each in left_out.values() if each)}
    for name in list(running.dispatcher.workers):
        dispatchers = [one.dispatcher for one in runnings]
        at_work = sum(len(one.workers[name].attempts) for one in dispatchers)
        is_paused = any(one.runners[name].state.is_paused for one in dispatchers)
        shown.setdefault("queue_running_jobs", {})[name,] = at_work
        shown.setdefault("queue_paused", {})[name,] = int(is_paused)


def _processes(sagas: Sequence[str], tallies: Iterable[TallyRow], shown: Shown) -> None:
    known = {tally.saga: tally for tally in tallies}
    for saga in dict.fromkeys([*sagas, *known]):
        tally = known.get(saga) or TallyRow(saga)
        for family, count in (
            ("processes_started", tally.started),
            ("processes_completed", tally.completed),
            ("processes_failed", tally.failed),
            ("active_processes", tally.running + tally.stuck),
            ("stuck_processes", tally.stuck),
        ):
            values = shown.setdefault(family, {})
            values[saga,] = values.get((saga,), 0) + count


def _waiting(running: Running, backlog: Backlog, shown: Shown) -> None:
    now_ms = running.services.clock.now_ms()
    jobs: Counter[tuple[str, ...]] = Counter()
    ages: dict[tuple[str, ...], float] = {}
    for name in running.dispatcher.runners:
        jobs[_label(running, name),] = 0
        ages[_label(running, name),] = 0.0
    for name, queue in backlog.queues.items():
        label = _label(running, name)
        age_s = max(now_ms - queue.oldest_at_ms, 0) / 1000
        jobs[label,] += queue.jobs
        ages[label,] = max(ages.get((label,), 0.0), age_s)
    shown["queue_jobs"], shown["queue_oldest_job_seconds"] = dict(jobs), ages
    messages = backlog.dead_letters - backlog.dead_jobs
    shown["dead_letters_kept"] = {("job",): backlog.dead_jobs, ("message",): messages}
    shown["inbox_messages"] = {(): backlog.messages}


def _label(running: Running, queue: str) -> str:
    if queue == SAGAS:
        return TO_SAGAS
    return queue if queue in running.dispatcher.runners else OTHERS


def _residents(
    running: Running, runnings: Sequence[Running], sagas: Sequence[str], shown: Shown
) -> None:
    supervisors = [one.supervisor for one in runnings]
    accepted = sum(each.admission.accepted for each in supervisors)
    admission = running.supervisor.admission  # of a front: what it has accepted for others
    shown["mailbox_messages"] = {(): max(admission.accepted, accepted)}
    shown["waiting_senders"] = {(): admission.waiting}
    shown["resident_processes"] = {(): sum(len(each.active) for each in supervisors)}
    asides = [key for each in supervisors for key in list(each.quarantine.asides)]
    aside = Counter(split_key(key)[0] for key in asides)
    for saga in dict.fromkeys([*sagas, *aside]):
        shown.setdefault("quarantined_processes", {})[saga,] = aside[saga]
