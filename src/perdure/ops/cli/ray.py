"""``perdure ray …``: hosts on a cluster of Ray, as operators bring them up, look, move, end them.

Next to read: ``cluster/ray.py``, which does it and needs asyncpg: imported where it is called.
"""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perdure.errors import DefinitionError
from perdure.ops.cli.exits import Exit
from perdure.ops.cli.options import JsonOption
from perdure.ops.cli.output import Output
from perdure.ops.wording import counted

if TYPE_CHECKING:
    from perdure.cluster.ray import RayStatus

__all__ = ["down", "drain", "rebalance", "status", "up"]

SCHEMA = "perdure"
NODE_CHARS = 12
"""Of a node's id: enough to tell nodes apart, and to give to ``drain``."""

AddressOption = Annotated[
    str,
    typer.Option(
        "--address",
        envvar="RAY_ADDRESS",
        help="Of the head, as 10.0.0.5:6379; by default the cluster that this machine belongs to.",
    ),
]
SchemaOption = Annotated[
    str,
    typer.Option("--schema", help="Of the database, as it is in the hosts' names."),
]
WithinOption = Annotated[
    float,
    typer.Option("--timeout", min=1, max=3600, help="Seconds to wait until all hosts run."),
]


async def up(
    app: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:APP",
            envvar="PERDURE_APP",
            help="A Runtime, or a function that makes one; imported on the nodes.",
        ),
    ],
    store: Annotated[
        str | None,
        typer.Option(
            "--store",
            "-s",
            envvar="PERDURE_STORE",
            help="URL of the PostgreSQL database, in place of the one your code names.",
        ),
    ] = None,
    hosts: Annotated[int, typer.Option("--hosts", "-n", min=1, max=1000)] = 4,
    runtime_env: Annotated[
        str | None,
        typer.Option("--runtime-env", help='Ray\'s, as JSON: {"working_dir": "."}'),
    ] = None,
    schema: Annotated[
        str | None,
        typer.Option("--schema", help="In the hosts' names; by default that of the store's URL."),
    ] = None,
    address: AddressOption = "auto",
    within_s: WithinOption = 60.0,
    as_json: JsonOption = False,
) -> Exit:
    """Have Ray run your runtime on its nodes; again, and only what misses is made."""
    from perdure.cluster import ray

    options = {} if runtime_env is None else {"runtime_env": _document(runtime_env)}
    _end_on_sigterm()
    found = await ray.up(
        app,
        store,
        hosts=hosts,
        schema=schema,
        address=address,
        options=options,
        within_s=within_s,
    )
    return _show(found, as_json)


async def status(
    schema: SchemaOption = SCHEMA, address: AddressOption = "auto", as_json: JsonOption = False
) -> Exit:
    """Show the hosts: where they are, how they stand, what they own. Exits with 1 if some miss."""
    from perdure.cluster import ray

    return _show(await ray.status(schema=schema, address=address), as_json, schema)


async def drain(
    target: Annotated[
        str,
        typer.Argument(
            metavar="HOST|NODE",
            help="A host's number; or a node, by its address or the beginning of its id.",
        ),
    ],
    schema: SchemaOption = SCHEMA,
    address: AddressOption = "auto",
    within_s: WithinOption = 60.0,
    as_json: JsonOption = False,
) -> Exit:
    """Move a host into a new process, or all hosts of a node to others, losing no time of theirs.

    What they have accepted is finished first.
    """
    from perdure.cluster import ray

    found = await ray.drain(target, schema=schema, address=address, within_s=within_s)
    return _show(found, as_json)


async def rebalance(
    schema: SchemaOption = SCHEMA,
    address: AddressOption = "auto",
    within_s: WithinOption = 60.0,
    as_json: JsonOption = False,
) -> Exit:
    """Move as few hosts as can be, so that each node holds as many; Ray does not by itself."""
    from perdure.cluster import ray

    found = await ray.rebalance(schema=schema, address=address, within_s=within_s)
    return _show(found, as_json)


async def down(
    schema: SchemaOption = SCHEMA,
    address: AddressOption = "auto",
    within_s: WithinOption = 60.0,
    as_json: JsonOption = False,
) -> None:
    """Drain all hosts and end them. What waits in the database waits there."""
    from perdure.cluster import ray

    ended = await ray.down(schema=schema, address=address, within_s=within_s)
    Output(as_json).line(f"{counted(len(ended), 'host')} ended", {"ended": ended})


def _end_on_sigterm() -> None:
    """As by Ctrl-C: what was made is ended again, which a process that just dies would leave."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, signal.raise_signal, signal.SIGINT)


def _document(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise DefinitionError(f"--runtime-env is no JSON: {error}", remedy=_REMEDY) from error
    if not isinstance(found, dict):
        raise DefinitionError(f"--runtime-env is {text}, no object", remedy=_REMEDY)
    return found


_REMEDY = """give an object, such as '{"working_dir": "."}'"""


def _show(found: RayStatus, as_json: bool, schema: str = SCHEMA) -> Exit:
    output = Output(as_json)
    addresses = {one.node: one.address for one in found.nodes}
    rows = [
        asdict(one)
        | {"node": one.node if as_json else one.node[:NODE_CHARS]}
        | {"address": addresses.get(one.node)}
        for one in found.hosts
    ]
    headings = ("host", "state", "node", "address", "pid", "version", "shards", "error")
    output.rows(rows, dict(zip(headings, headings, strict=True)))
    for note in _notes(found, schema):
        output.note(note)
    return Exit.OK if found.is_whole else Exit.FAILED


def _notes(found: RayStatus, schema: str) -> Iterator[str]:
    """What is to be done, a line for each."""
    taking = [one.node for one in found.nodes if one.takes_hosts]
    if not taking:
        yield "no node takes hosts; ray start --address=<head> --num-cpus=2 on a machine adds one"
    if not found.hosts:
        others = ", ".join(found.schemas)
        hint = f" (there are some of {others}: --schema)" if others else ""
        yield f"no hosts of schema {schema}{hint}; perdure ray up makes them"
        return
    if found.missing:
        yield f"{_hosts(found.missing)} not there; perdure ray up, as before, makes what misses"
    absent = [one.host for one in found.hosts if one.state == "absent"]
    if absent and taking:
        yield (
            f"{_hosts(absent)} not answering; if it stays so, `perdure ray drain <host>` has the "
            "process killed and made anew"
        )
    empty = set(taking) - {one.node for one in found.hosts}
    if empty and not absent:
        nodes = ", ".join(sorted(node[:NODE_CHARS] for node in empty))
        yield f"no host on {nodes}; perdure ray rebalance moves some there"


def _hosts(numbers: Sequence[int]) -> str:
    listed = ", ".join(str(number) for number in numbers)
    return f"host {listed} is" if len(numbers) == 1 else f"hosts {listed} are"
