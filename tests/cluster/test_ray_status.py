"""What ``perdure ray`` says of hosts that do not run, and what is to be done."""

from __future__ import annotations

import pytest

from perdure.cluster.ray import HostStatus, NodeStatus, RayStatus, _not_running
from perdure.ops.cli.ray import _notes

HEAD = NodeStatus("h" * 56, "10.0.0.1", takes_hosts=False)
FIRST = NodeStatus("a" * 56, "10.0.0.2", takes_hosts=True)
SECOND = NodeStatus("b" * 56, "10.0.0.3", takes_hosts=True)


def host(number: int, state: str = "running", hosts: int = 2) -> HostStatus:
    """One of two, on the first node."""
    if state == "absent":
        return HostStatus(number, state, error="no answer")
    return HostStatus(number, state, (number,), node=FIRST.node, hosts=hosts)


@pytest.mark.parametrize(
    ("hosts", "nodes", "schemas", "notes"),
    [
        ([host(0), host(1)], [HEAD, FIRST], [], []),
        ([host(0), host(1, "starting")], [HEAD, FIRST], [], []),
        ([], [HEAD, FIRST], [], ["no hosts of schema shop; perdure ray up makes them"]),
        ([], [FIRST], ["a", "b"], ["no hosts of schema shop (there are some of a, b: --schema)"]),
        ([], [HEAD], [], ["no node takes hosts; ray start --address", "no hosts of schema shop"]),
        ([host(0)], [FIRST], [], ["host 1 is not there; perdure ray up, as before, makes what"]),
        ([host(0, hosts=4)], [FIRST], [], ["hosts 1, 2, 3 are not there"]),
        (
            [host(0), host(1, "absent")],
            [FIRST, SECOND],
            [],
            ["host 1 is not answering; if it stays so, `perdure ray drain <host>` has the process"],
        ),
        ([host(0, "absent"), host(1, "absent")], [HEAD], [], ["no node takes hosts; ray start"]),
        (
            [host(0), host(1)],
            [FIRST, SECOND],
            [],
            ["no host on bbbbbbbbbbbb; perdure ray rebalance moves some there"],
        ),
    ],
)
def test_each_note_says_what_is_to_be_done(
    hosts: list[HostStatus], nodes: list[NodeStatus], schemas: list[str], notes: list[str]
) -> None:
    found = list(_notes(RayStatus(hosts, nodes, schemas), "shop"))
    assert len(found) == len(notes)
    for said, begins in zip(found, notes, strict=True):
        assert said.startswith(begins)


def test_hosts_that_fail_alike_are_told_in_one_line() -> None:
    others = [host(0, "absent"), host(1, "absent"), HostStatus(2, "failed", error="no module")]
    assert str(_not_running(others, has_room=True)) == (
        "not all hosts run: hosts 0, 1 are absent: no answer; host 2 is failed: no module; see the "
        "log of the host, worker-*.err in Ray's session directory there"
    )
    assert "no node takes hosts: add one" in str(_not_running(others, has_room=False))
