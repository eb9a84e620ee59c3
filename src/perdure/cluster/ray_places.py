"""Which hosts have to move so that every node holds as many as the others. Pure; knows no Ray.

Next to read: ``ray_moves.py``, which moves them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import groupby

from perdure.errors import DefinitionError

__all__ = ["assigned", "check_share", "surplus"]


def assigned(host: int, hosts: int, shards: int) -> frozenset[int]:
    """The shards of one host of so many: every shard has one.

    >>> sorted(assigned(1, 4, 16))
    [1, 5, 9, 13]
    """
    return frozenset(range(host, shards, hosts))


def check_share(hosts: int, shards: int) -> None:
    """Raise ``DefinitionError`` if some of so many hosts would own nothing, ever.

    >>> check_share(40, 16)
    Traceback (most recent call last):
    perdure.errors.DefinitionError: 40 hosts for 16 shards: some would own none; ask for 16 or ...
    """
    if hosts > shards:
        raise DefinitionError(
            f"{hosts} hosts for {shards} shards: some would own none",
            remedy=f"ask for {shards} or fewer; the number of shards is the database's, for good",
        )


def surplus(places: Mapping[int, str], nodes: Iterable[str]) -> list[int]:
    """The hosts above what their node should hold, the latest of each node first.

    >>> surplus({0: "a", 1: "a", 2: "a", 3: "b"}, ["a", "b"])
    [2]

    As few as can be: afterwards no node holds two more than another, if each of them goes where
    there is most room. A host on a node that is not among ``nodes`` has to move, too.
    """
    by_node: dict[str, list[int]] = {node: [] for node in nodes}
    homeless = [host for host, node in places.items() if node not in by_node]
    for node, hosts in groupby(sorted(places, key=lambda host: (places[host], host)), places.get):
        if node in by_node:
            by_node[node] = list(hosts)
    if not by_node:
        return []
    share, above = divmod(len(places), len(by_node))
    moving = []
    fullest_first = sorted(by_node.values(), key=len, reverse=True)
    for number, hosts_there in enumerate(fullest_first):
        moving += hosts_there[share + (number < above) :]
    return sorted(homeless + moving)
