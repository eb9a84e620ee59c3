"""``kill -9`` in the midst of purges: whatever is left is whole, and the next process goes on."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
from contextlib import closing

from perdure import Outcome, Runtime
from perdure.testing.invariants import violations
from tests import warm
from tests.runtime.support import quickly
from tests.runtime.test_retention import Added, Deleted, ForEver, live

KILLS = [(point, times) for times in (1, 3) for point in ("K5", "K6", "K7")]


class Before(ForEver):
    """As they were when nobody had said that they are to be deleted."""

    name = Deleted.name


def purge(path, point, times):
    return warm.run("-m", "tests.runtime.purge_child", path, point, str(times), timeout_s=60)


def look(path):
    with closing(sqlite3.connect(path)) as connection:
        assert violations(connection) == []
        [(rows,)] = connection.execute("SELECT count(*) FROM journal").fetchall()
        [(unswept,)] = connection.execute("SELECT count(*) FROM tombstones WHERE due_at_ms = 0")
        return rows, unswept


def test_a_purge_that_is_killed_goes_on_where_it_was(tmp_path):
    path = tmp_path / "purged.db"
    url = f"sqlite+aiosqlite:///{path}"
    ids = [f"k-{n}" for n in range(8)]

    async def fill():
        async with Runtime(url, [Before]) as runtime:
            await asyncio.gather(*(live(runtime, Before, id, count=7) for id in ids))

    asyncio.run(fill())
    seen = [look(path)]
    for point, times in KILLS:
        killed = purge(path, point, times)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        seen.append(look(path))
    assert seen[0] == (len(ids) * 9, 0)
    assert seen == sorted(seen, key=lambda found: -found[0]), seen
    assert any(unswept for _, unswept in seen), seen
    last = purge(path, "none", 1)
    assert (last.returncode, last.stdout) == (0, "done\n"), last.stderr
    assert look(path) == (0, 0)

    @quickly
    async def repeat():
        async with Runtime(url, [Deleted]) as runtime:
            for id in ids:
                ref = runtime.ref(Deleted, id)
                again = await runtime.send(ref, Added(id, 1), message_id="add-3")
                assert (again.outcome, again.duplicate) == (Outcome.FINISHED, True)

    repeat()
