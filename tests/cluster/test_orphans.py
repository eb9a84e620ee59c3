"""How hosts part the shards of those that are gone: all are taken, and nobody has much more."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from perdure.cluster.orphans import part_of
from perdure.store.ownership import HostRow

HOSTS = st.lists(st.tuples(st.integers(0, 9), st.booleans(), st.booleans()), max_size=8)


def rows(hosts: list[tuple[int, bool, bool]]) -> list[HostRow]:
    return [
        HostRow(f"assigned:{n}", str(n), n, "0", 0.0, is_gone, is_draining, tuple(range(count)))
        for n, (count, is_gone, is_draining) in enumerate(hosts)
    ]


@given(HOSTS, st.randoms())
def test_whoever_comes_first_all_orphans_are_taken_and_shared(hosts, random) -> None:
    seen = rows(hosts)
    orphans = sum(len(row.shards) for row in seen if row.is_gone)
    held = {row.host: len(row.shards) for row in seen if not (row.is_gone or row.is_draining)}
    before = dict(held)
    for me in random.sample(sorted(held), len(held)):
        part = part_of(me, seen)
        held[me] += min(part, orphans)
        orphans -= min(part, orphans)
    assert not (held and orphans)
    share = -(-sum(held.values()) // max(1, len(held)))
    assert all(held[me] <= max(share, before[me]) for me in held)


@given(HOSTS)
def test_who_is_not_among_them_or_drains_takes_none(hosts) -> None:
    seen = rows(hosts)
    assert part_of("assigned:other", seen) == 0
    assert not any(part_of(row.host, seen) for row in seen if row.is_draining or row.is_gone)
