"""Which hosts of Ray move, and which shards a host has: arithmetic, without Ray."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from perdure.cluster.ray_places import assigned, surplus

NODES = st.lists(st.sampled_from("abcdefg"), min_size=1, unique=True)
PLACES = st.dictionaries(st.integers(0, 40), st.sampled_from("abcdefgxy"))


@given(st.integers(1, 30), st.integers(1, 100))
def test_every_shard_has_one_host(hosts: int, shards: int) -> None:
    owned = [shard for host in range(hosts) for shard in assigned(host, hosts, shards)]
    assert sorted(owned) == list(range(shards))


@given(PLACES, NODES)
def test_after_the_moves_no_node_holds_two_more_than_another(
    places: dict[int, str], nodes: list[str]
) -> None:
    moving = surplus(places, nodes)
    held = Counter({node: 0 for node in nodes})
    held.update(node for host, node in places.items() if host not in moving)
    for _ in moving:
        held[min(nodes, key=lambda node: held[node])] += 1
    assert set(held) == set(nodes)
    assert max(held.values()) - min(held.values()) <= 1


@given(PLACES, NODES)
def test_nobody_moves_who_need_not(places: dict[int, str], nodes: list[str]) -> None:
    moving = surplus(places, nodes)
    homeless = [host for host, node in places.items() if node not in nodes]
    share, above = divmod(len(places), len(nodes))
    held = sorted((Counter(places.values())[node] for node in nodes), reverse=True)
    # The fullest keep one more; fewer moves would leave some node above that.
    least = sum(max(0, n - share - (rank < above)) for rank, n in enumerate(held))
    assert len(moving) == len(homeless) + least
    assert surplus({host: node for host, node in places.items()}, nodes) == moving


def test_without_a_node_nobody_moves() -> None:
    assert surplus({0: "gone"}, []) == []
