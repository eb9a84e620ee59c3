"""``perdure bench``: what perdure does on this machine and this disk, in a few seconds.

Beside the store that is named, so on its disk, a new file is made, measured and removed; the store
itself is not opened. The repository's ``benchmarks`` compare with other software and are thorough;
this one answers "is it this disk?". Next to read: ``ops/bench.py``, what is measured.
"""

from __future__ import annotations

import os
import tempfile
from typing import Annotated

import typer

from perdure.errors import StoreNotWritable
from perdure.ops.bench import measure
from perdure.ops.cli.options import JsonOption, StoreOption
from perdure.ops.cli.output import Output
from perdure.ops.cli.progress import progress
from perdure.ops.cli.targets import path_named

__all__ = ["bench"]


async def bench(
    store: StoreOption = None,
    instances: Annotated[int, typer.Option(min=1, help="So many instances.")] = 1_000,
    messages: Annotated[int, typer.Option(min=2, help="So many messages to each.")] = 10,
    as_json: JsonOption = False,
) -> None:
    """Measure turns a second, and how long one turn takes, on the disk of the store.

    Makes a new store beside the one named (or in the temporary directory) and removes it.
    """
    beside = os.path.dirname(path_named(store)) if store else tempfile.gettempdir()
    try:
        directory = tempfile.TemporaryDirectory(prefix="perdure-bench-", dir=beside)
    except OSError as error:
        raise StoreNotWritable(
            f"cannot make a directory in {beside!r}: {error.strerror}",
            remedy="name a store on a disk you may write to",
        ) from error
    with directory as made, progress("turns", instances * messages) as advance:
        path = os.path.join(made, "bench.db")
        found = await measure(path, instances, messages, advance)
    output = Output(as_json)
    if as_json:
        output.sheet(found.as_json())
        return
    output.sheet(
        {
            "store": f"{found.store} in {beside}",
            "turns": f"{found.turns_per_s:,.0f} a second, {instances:,} instances, "
            f"{instances * messages:,} turns in {found.took_s:.2f} s",
            "one turn alone": f"{found.alone_p50_ms:.2f} ms in the middle, "
            f"{found.alone_p99_ms:.2f} ms for 99 of 100",
            "rehydrations": f"{found.rehydrations_per_s:,.0f} a second",
            "size": f"{found.bytes_per_turn:,.0f} bytes a turn",
        }
    )
