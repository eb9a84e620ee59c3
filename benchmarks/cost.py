"""What a turn costs on PostgreSQL: our CPU and the server's, log and table bytes, commits.

The model of ``docs/scale.md`` is made of these figures. The server's CPU is read from the system:
the server must run on this machine. Next to read: ``postgres.py``.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import asyncpg
from sqlalchemy.engine import make_url

from benchmarks.load import closed_loop, names, open_all, runtime_over
from benchmarks.measure import Bench, Measure, run_rounds, stopwatch
from benchmarks.postgres import fresh_schema
from benchmarks.result import Result

__all__ = ["QUICK", "Sizes", "run"]

_READ = """
SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0'),
  pg_snapshot_xmax(pg_current_snapshot())::text::bigint,
  (SELECT sum(pg_total_relation_size(oid)) FROM pg_class
    WHERE relnamespace = $1::text::regnamespace AND relkind = 'r'),
  array(SELECT pid FROM pg_stat_activity)
"""


@dataclass(frozen=True, slots=True)
class Sizes:
    """``turns`` of all instances, of each of which one is in flight."""

    turns: int = 50_000
    in_flight: tuple[int, ...] = (1_000, 100, 10)


QUICK = Sizes(turns=5_000, in_flight=(1_000, 100))


@dataclass(frozen=True, slots=True)
class _Reading:
    wal: int
    commits: int
    stored: int
    cpu_s: float


def run(bench: Bench, sizes: Sizes = Sizes()) -> Result:
    """Per turn with its message id, an event and a command, at several numbers in flight."""
    measures: list[tuple[str, Measure]] = [
        (f"{count} in flight", partial(_turns, bench, count, sizes.turns // count))
        for count in sizes.in_flight
    ]
    rounds = run_rounds(bench, measures)
    result = Result("cost", rounds.disturbance())
    for count in sizes.in_flight:
        for what, unit in _UNITS.items():
            result.figures.append(rounds.figure(f"{count} {what}", unit, f"{count}: {what}"))
    result.notes.append("one runtime that owns all shards; the server on this machine")
    result.notes.append(
        "a commit: of any transaction that wrote something, a host's beats among them"
    )
    result.notes.append("stored: tables and indexes, before anything is let go of")
    return result


_UNITS = {
    "rate": "turns/s",
    "our cpu": "us/turn",
    "server's cpu": "us/turn",
    "log": "bytes/turn",
    "stored": "bytes/turn",
    "turns a commit": "",
}


def _turns(bench: Bench, instances: int, turns: int) -> Mapping[str, float]:
    assert bench.server is not None
    with fresh_schema(bench.server) as url:
        return asyncio.run(_measured(url, instances, turns))


async def _measured(url: str, instances: int, turns: int) -> dict[str, float]:
    parsed = make_url(url)
    schema = str(parsed.query["schema"])
    plain = parsed.difference_update_query(["schema"]).set(drivername="postgresql")
    async with runtime_over(url) as runtime:
        refs = await open_all(runtime, names(instances))
        looking = await asyncpg.connect(plain.render_as_string(hide_password=False))
        before = await _reading(looking, schema)
        with stopwatch() as watch:
            await closed_loop(runtime, refs, turns)
        after = await _reading(looking, schema)
        await looking.close()
    count = instances * turns
    return {
        f"{instances} rate": watch.rate(count),
        f"{instances} our cpu": watch.cpu_us(count),
        f"{instances} server's cpu": (after.cpu_s - before.cpu_s) * 1e6 / count,
        f"{instances} log": (after.wal - before.wal) / count,
        f"{instances} stored": (after.stored - before.stored) / count,
        f"{instances} turns a commit": count / max(after.commits - before.commits, 1),
    }


async def _reading(connection: asyncpg.Connection, schema: str) -> _Reading:
    wal, commits, stored, pids = await connection.fetchrow(_READ, schema)
    return _Reading(int(wal), int(commits), int(stored), sum(map(_cpu_s, pids)))


def _cpu_s(pid: int) -> float:
    """CPU seconds of a process of this machine so far; 0 if it has just gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
