"""The checkers find what they are there for: each is shown a ledger or tables that are wrong."""

from __future__ import annotations

import copy
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from typing import Any, NamedTuple

import pytest

from tests.survival.checks import (
    CHECKS,
    Ack,
    Effect,
    Tables,
    Told,
    Turn,
    ended,
    kept,
    live,
    sound,
)
from tests.survival.sagas import Op
from tests.survival.story import Story, Zygote

AT_THE_END = 1_000_000


class World(NamedTuple):
    """What the checkers look at."""

    told: Told
    tables: Tables
    states: dict[str, Any]

    def found(self) -> set[str]:
        told, tables, states = self
        findings = [*kept(told, tables), *live(told, tables), *ended(told, tables, states)]
        print(*findings, sep="\n")
        return {counter for counter, _ in findings}

    def one(self, kind: str) -> str:
        """The id of some operation of this kind that was applied."""
        return next(
            id for id, acks in self.told.acks.items()
            if self.told.ops[id].kind == kind and acks[0].sequence_nr is not None
        )  # fmt: skip

    def instance(self, saga: str) -> str:
        """Some instance of this saga, with a turn or more."""
        return next(name for name in self.tables.journal if name.startswith(f"{saga}/"))


@pytest.fixture(scope="module")
def peace(tmp_path_factory):
    folder = tmp_path_factory.mktemp("peace")
    with Zygote() as zygote, Story(zygote, folder, "p") as story:
        story.live(quota=120)
        story.end()
        assert story.findings == []
        tables = story.look()
        states, _ = story.states()
        yield story.place.tables(), World(story.told, tables, states)


@pytest.fixture
def world(peace):
    return copy.deepcopy(peace[1])


def acknowledged_and_not_there(world: World) -> None:
    world.told.ops["new"] = Op("new", "append", "0", 0)
    world.told.acks["new"].append(Ack(AT_THE_END, "applied", 999, 0))


def acknowledged_as_another_turn(world: World) -> None:
    id = world.one("append")
    world.told.acks[id].append(Ack(AT_THE_END, "applied", 999, 0))


def parked_and_nowhere(world: World) -> None:
    world.told.ops["new"] = Op("new", "right", "nobody", 0)
    world.told.acks["new"].append(Ack(AT_THE_END, "parked", None, None))


def refused_and_applied(world: World) -> None:
    id = world.one("append")
    del world.told.acks[id]
    world.told.refused[id] = world.told.tries[id]


def done_without_a_turn(world: World) -> None:
    world.told.effects.append(Effect(AT_THE_END, 1, "Shop/nobody/1/0", "charge"))


def step_done_without_a_turn(world: World) -> None:
    key = f"{world.instance('Trips')}/another"
    world.told.effects.append(Effect(AT_THE_END, 1, key, "do"))


def done_twice_by_one_process(world: World) -> None:
    packed = next(effect for effect in world.told.effects if effect.what == "pack")
    world.told.effects.append(packed)


def in_the_list_twice(world: World) -> None:
    state = world.states["Lists/0"]
    world.states["Lists/0"] = replace(state, items=(*state.items, state.items[0]))


def list_not_as_the_journal(world: World) -> None:
    state = world.states["Lists/0"]
    world.states["Lists/0"] = replace(state, items=state.items[::-1])


def overtaken(world: World) -> None:
    last = world.states["Lists/0"].items[-1]
    world.told.acks[last] = [Ack(0, "applied", world.told.acks[last][0].sequence_nr, 0)]


def in_the_list_and_sent_by_nobody(world: World) -> None:
    item = world.states["Lists/0"].items[0]
    del world.told.first_try[item]


def not_heard_by_the_audit(world: World) -> None:
    state = world.states["Audit/0"]
    world.states["Audit/0"] = replace(state, items=state.items[1:])


def counted_twice(world: World) -> None:
    state = world.states["Counter/1"]
    world.states["Counter/1"] = replace(state, total=state.total + 1)


def not_counted(world: World) -> None:
    state = world.states["Counter/1"]
    world.states["Counter/1"] = replace(state, total=state.total - 1)


def answered_otherwise(world: World) -> None:
    id = world.one("count")
    world.told.acks[id].append(world.told.acks[id][0]._replace(reply=-1))


def published_by_a_failed_turn(world: World) -> None:
    world.states["Audit/poison"] = world.states["Audit/0"]


def poison_tried_too_often(world: World) -> None:
    id = next(id for id, op in world.told.ops.items() if op.kind == "spoil")
    world.tables.letters[id] += 1


def _ring(world: World) -> tuple[dict[int, Turn], int]:
    for instance, turns in world.tables.journal.items():
        for number, turn in turns.items():
            if turn.message_id.startswith("perdure.deadline/ring/"):
                assert instance.startswith("Alarm/")
                return turns, number
    raise LookupError("no alarm rang")


def rung_early(world: World) -> None:
    turns, number = _ring(world)
    turns[number] = Turn(turns[number].message_id, turns[number].body._replace(at_ms=0))


def never_rung(world: World) -> None:
    turns, number = _ring(world)
    turns[number] = Turn("another", turns[number].body._replace(deadlines_cleared=[]))
    for later in [nr for nr in turns if nr > number]:
        del turns[later]


def ring_not_heard(world: World) -> None:
    world.told.effects[:] = [one for one in world.told.effects if "ring" not in one.what]


def order_charged_twice(world: World) -> None:
    instance = world.instance("Shop")
    state = world.states[instance]
    world.states[instance] = replace(state, happened=("charged", *state.happened))


def order_without_its_result(world: World) -> None:
    instance = world.instance("Shop")
    world.states[instance] = replace(world.states[instance], happened=("charged",))


def packed_and_refunded(world: World) -> None:
    packed = next(effect for effect in world.told.effects if effect.what == "pack")
    world.told.effects.append(packed._replace(what="refund", life=99))


def undone_forwards(world: World) -> None:
    undone = [one for one in world.told.effects if one.key.endswith("/undo")]
    both = next(one for one in undone if sum(u.key[:14] == one.key[:14] for u in undone) == 2)
    trip = [one for one in undone if one.key.split("/")[1] == both.key.split("/")[1]]
    first, second = (world.told.effects.index(one) for one in trip)
    effects = world.told.effects
    effects[first], effects[second] = effects[second], effects[first]


def not_undone(world: World) -> None:
    world.told.effects.remove(next(one for one in world.told.effects if one.key.endswith("/undo")))


def done_again_while_undone(world: World) -> None:
    undone = next(one for one in world.told.effects if one.key.endswith("/undo"))
    key = undone.key.removesuffix("/undo")
    world.told.effects.append(Effect(AT_THE_END, 99, key, "do"))


def flow_out_of_order(world: World) -> None:
    key = f"{world.instance('Flows')}/read"
    world.told.effects.append(Effect(AT_THE_END, 99, key, "do"))


def joined_thrice(world: World) -> None:
    instance = world.instance("Join")
    world.states[instance] = replace(world.states[instance], items=("left", "right", "right"))


def never_answered(world: World) -> None:
    world.told.ops["new"] = Op("new", "append", "0", 0)


def something_waits(world: World) -> None:
    world.tables.waiting["outbox"] = 1


def somebody_has_not_ended(world: World) -> None:
    world.tables.status[world.instance("Shop")] = "running"


WRONG: list[tuple[Callable[[World], None], str]] = [
    (acknowledged_and_not_there, "lost"),
    (acknowledged_as_another_turn, "lost"),
    (parked_and_nowhere, "vanished"),
    (refused_and_applied, "ghost"),
    (done_without_a_turn, "ghost"),
    (step_done_without_a_turn, "ghost"),
    (done_twice_by_one_process, "double"),
    (in_the_list_twice, "double"),
    (list_not_as_the_journal, "reordered"),
    (overtaken, "reordered"),
    (in_the_list_and_sent_by_nobody, "ghost"),
    (not_heard_by_the_audit, "vanished"),
    (counted_twice, "double"),
    (not_counted, "lost"),
    (answered_otherwise, "reordered"),
    (published_by_a_failed_turn, "ghost"),
    (poison_tried_too_often, "vanished"),
    (rung_early, "early_timer"),
    (never_rung, "lost_timer"),
    (ring_not_heard, "vanished"),
    (order_charged_twice, "double"),
    (order_without_its_result, "lost"),
    (packed_and_refunded, "comp_order"),
    (undone_forwards, "comp_order"),
    (not_undone, "comp_order"),
    (done_again_while_undone, "comp_order"),
    (flow_out_of_order, "reordered"),
    (joined_thrice, "double"),
    (never_answered, "not_live"),
    (something_waits, "not_live"),
    (somebody_has_not_ended, "not_live"),
]


def test_in_peace_nothing_is_found(world):
    assert world.found() == set()


@pytest.mark.parametrize(("tamper", "counter"), WRONG, ids=lambda one: getattr(one, "__name__", ""))
def test_what_is_wrong_is_found(tamper, counter, world):
    tamper(world)
    assert counter in world.found()


@pytest.mark.parametrize(
    ("sql", "counter"),
    [
        ("UPDATE journal SET epoch = epoch + 9", "torn_turn"),
        ("DELETE FROM instances", "torn_turn"),
        ("UPDATE snapshots SET sequence_nr = 1", "torn_turn"),
    ],
)
def test_a_broken_table_counts(sql, counter, peace, tmp_path):
    copied = tmp_path / "copy.db"
    copied.write_bytes(peace[0].read_bytes())
    with closing(sqlite3.connect(copied, isolation_level=None)) as connection:
        connection.execute(sql.replace("UPDATE snapshots", "UPDATE OR IGNORE snapshots"))
        assert counter in {counter for counter, _ in sound(connection)}


def test_every_counter_is_moved_by_some_wrong():
    moved = {counter for _, counter in WRONG} | {"torn_turn"}
    assert moved >= set(CHECKS) - {"stale_commit", "state_mismatch"}


def test_a_ledger_is_read_on_where_it_was(tmp_path):
    path = tmp_path / "ledger"
    path.write_text('["begin"]\n["try","a","append","0",0]\n["unknown","a","StoreError"]\n')
    told = Told(path)
    told.read()
    assert (told.lives, told.unsettled) == (1, [Op("a", "append", "0", 0)])
    with path.open("a") as file:
        file.write('["ack","a","applied",1,1,false]\n["end"]\n')
    told.read()
    assert (told.lives, told.unsettled, told.acks["a"]) == (1, [], [Ack(4, "applied", 1, 1)])
