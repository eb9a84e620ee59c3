"""``perdure hosts``: the processes that share a store in PostgreSQL, and their shards.

Next to read: ``store/overview.py``, where it is read; ``cluster/host.py``, who takes shards.
"""

from __future__ import annotations

from typing import Any

from perdure.errors import DefinitionError
from perdure.ops.cli.documents import row_of
from perdure.ops.cli.looking import looking
from perdure.ops.cli.options import JsonOption, StoreOption
from perdure.ops.cli.output import Output
from perdure.ops.looked_at import HostSeen

__all__ = ["hosts"]


async def hosts(store: StoreOption = None, as_json: JsonOption = False) -> None:
    """List the processes that share the store, their shards, and the shards of nobody."""
    async with looking(store, None) as look:
        found = await look.hosts()
    if found is None:
        raise DefinitionError(
            "a store in a file has one owner, and no hosts",
            remedy="give one in PostgreSQL: --store postgresql+asyncpg://…",
        )
    output = Output(as_json)
    if as_json:
        output.sheet(row_of(found))
        return
    columns = {
        "name": "host",
        "pid": "pid",
        "version": "version",
        "state": "state",
        "beat": "last beat",
        "shards": "shards",
    }
    if not output.rows(map(_row, found.hosts), columns):
        output.note("no process shares the store")
    if found.unowned:
        listed = _ranges(found.unowned)
        output.line(f"without a live owner: {listed} (of {found.shards})")


def _row(host: HostSeen) -> dict[str, Any]:
    state = "gone" if host.is_gone else "draining" if host.is_draining else "live"
    return {
        "name": host.name,
        "pid": host.pid,
        "version": host.version,
        "state": state,
        "beat": f"{host.silent_s:.1f} s ago",
        "shards": _ranges(host.shards),
    }


def _ranges(shards: list[int]) -> str:
    """In few words.

    >>> _ranges([0, 1, 2, 5])
    '0-2, 5'
    """
    runs: list[list[int]] = []
    for shard in shards:
        if runs and runs[-1][-1] == shard - 1:
            runs[-1][-1] = shard
        else:
            runs.append([shard, shard])
    return ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in runs)
