"""Whether what the clients were told, what the workers did, and what the tables hold agree.

``sound`` and ``kept`` hold after every kill, ``live`` and ``ended`` when the faults have stopped.
All give findings: the name of a counter of the report card, and a sentence. They read the raw
tables and the ledger; states are given by whoever has a fresh runtime.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from perdure.codec.bodies import TurnBody
from perdure.codec.codec import Codec
from perdure.codec.journal import JournalCodec
from perdure.codec.registry import TypeRegistry
from perdure.testing.invariants import Rule, violations
from tests.survival.sagas import FLOW, SAGA_OF, STEPS, Op

CHECKS = (
    "lost", "double", "reordered", "ghost", "torn_turn", "stale_commit", "early_timer",
    "lost_timer", "comp_order", "state_mismatch", "vanished", "not_live",
)  # fmt: skip
"""The counters of the report card that this workload can move."""

Finding: TypeAlias = tuple[str, str]

_COUNTER_OF = {
    Rule.EPOCH: "stale_commit", Rule.MESSAGE: "double", Rule.RESULT: "double",
    Rule.SNAPSHOT: "state_mismatch",
}  # fmt: skip
_journal = JournalCodec(Codec(TypeRegistry()))


class Ack(NamedTuple):
    """One acknowledgement, and its place in the ledger."""

    at: int
    outcome: str
    sequence_nr: int | None
    reply: Any


class Effect(NamedTuple):
    """What a worker did, where in the ledger, in which life: the number of it, or its process."""

    at: int
    life: int
    key: str
    what: str


class Told:
    """What the ledger holds so far. Read again, it goes on where it was."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = self._lines = 0
        self.lives = 0
        self.ops: dict[str, Op] = {}
        self.first_try: dict[str, int] = {}
        self.tries: Counter[str] = Counter()
        self.acks: defaultdict[str, list[Ack]] = defaultdict(list)
        self.refused: Counter[str] = Counter()
        self.unknown: Counter[str] = Counter()
        self.effects: list[Effect] = []
        self.deaths: Counter[str] = Counter()
        """How often a process has died at a point that was dealt to it."""
        self.stops: list[float] = []
        """How long each graceful stop took, in seconds."""

    def read(self) -> None:
        """Take in what was added."""
        with self._path.open("rb") as file:
            file.seek(self._offset)
            for line in file:
                self._offset += len(line)
                self._lines += 1
                self._take(*json.loads(line))

    def _take(self, word: str, *rest: Any) -> None:
        at = self._lines
        match word:
            case "begin":
                self.lives += 1
            case "try":
                op = Op(*rest)
                self.ops[op.id] = op
                self.first_try.setdefault(op.id, at)
                self.tries[op.id] += 1
            case "ack":
                id, outcome, sequence_nr, reply, _ = rest
                self.acks[id].append(Ack(at, outcome, sequence_nr, reply))
            case "refused":
                self.refused[rest[0]] += 1
            case "unknown":
                self.unknown[rest[0]] += 1
            case "died":
                self.deaths[rest[0]] += 1
            case "stopped":
                self.stops.append(rest[0])
            case "effect":
                key, what, *life = rest
                self.effects.append(Effect(at, life[0] if life else self.lives, key, what))

    @property
    def unsettled(self) -> list[Op]:
        """The clients do not know what became of these, or know that they must ask again."""
        return [op for id, op in self.ops.items() if id not in self.acks and not self.refused[id]]

    @property
    def one_sided(self) -> list[Op]:
        """The other sides of joins of which one was sent."""
        sides = {op.target: op for op in self.ops.values() if op.kind in ("left", "right")}
        both = Counter(op.target for op in self.ops.values() if op.kind in ("left", "right"))
        other = {"left": "right", "right": "left"}
        return [
            Op(f"{op.target}.{other[op.kind]}", other[op.kind], op.target, 0)
            for op in sides.values()
            if both[op.target] == 1
        ]


class Turn(NamedTuple):
    """A row of the journal."""

    message_id: str
    body: TurnBody


@dataclass
class Tables:
    """The raw tables, as far as they are compared with the ledger."""

    journal: dict[str, dict[int, Turn]] = field(default_factory=dict)
    inbox: set[str] = field(default_factory=set)
    letters: dict[str, int] = field(default_factory=dict)
    status: dict[str, str] = field(default_factory=dict)
    waiting: dict[str, int] = field(default_factory=dict)

    @classmethod
    def read(cls, connection: sqlite3.Connection) -> Tables:
        tables = cls()
        if not connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall():
            return tables
        rows = connection.execute("SELECT instance, sequence_nr, message_id, body FROM journal")
        for instance, number, message_id, body in rows:
            turn = Turn(message_id, _journal.read_turn(body))
            tables.journal.setdefault(instance, {})[number] = turn
        tables.inbox = {id for (id,) in connection.execute("SELECT message_id FROM inbox")}
        letters = connection.execute("SELECT message_id, attempts FROM dead_letters")
        tables.letters = dict(letters.fetchall())
        heads = connection.execute("SELECT instance, status FROM instances")
        tables.status = dict(heads.fetchall())
        for table in ("outbox", "inbox", "deadlines"):
            [(count,)] = connection.execute(f"SELECT count(*) FROM {table}").fetchall()
            tables.waiting[table] = count
        return tables

    @property
    def turns(self) -> int:
        return sum(map(len, self.journal.values()))

    def of(self, saga: str) -> Iterator[tuple[str, dict[int, Turn]]]:
        """(id, journal) of the saga's instances."""
        for instance, turns in self.journal.items():
            if instance.startswith(f"{saga}/"):
                yield instance.partition("/")[2], turns


def sound(connection: sqlite3.Connection) -> Iterator[Finding]:
    """The table invariants that are broken, by the counter of the report card."""
    for violation in violations(connection):
        yield _COUNTER_OF.get(violation.rule, "torn_turn"), str(violation)


def kept(told: Told, tables: Tables) -> Iterator[Finding]:
    """What must hold whenever nobody lives: nothing acknowledged is lost, no effect is a ghost."""
    processed = {turn.message_id for turns in tables.journal.values() for turn in turns.values()}
    for id, acks in told.acks.items():
        op = told.ops[id]
        turns = tables.journal.get(f"{SAGA_OF[op.kind]}/{op.target}", {})
        for ack in acks:
            if ack.sequence_nr is None:
                if id not in processed and id not in tables.inbox and id not in tables.letters:
                    yield "vanished", f"{op}: {ack.outcome}, and it is nowhere"
            elif ack.sequence_nr not in turns or turns[ack.sequence_nr].message_id != id:
                yield "lost", f"{op}: acknowledged as turn {ack.sequence_nr}, which has it not"
    for id, op in told.ops.items():
        if id in processed and id not in told.acks and told.refused[id] == told.tries[id]:
            yield "ghost", f"{op}: refused, and applied"
    for key in {effect.key for effect in told.effects}:
        if not _is_committed(key, tables):
            yield "ghost", f"effect {key} without a committed turn"
    yield from _once_a_life(told)


def _is_committed(key: str, tables: Tables) -> bool:
    saga, id, *rest = key.split("/")
    turns = tables.journal.get(f"{saga}/{id}", {})
    if rest[0].isdigit():
        number, index = map(int, rest)
        return number in turns and index < len(turns[number].body.outgoing)
    queue = ".".join([saga, *rest])
    return any(queue == sent[1] for turn in turns.values() for sent in turn.body.outgoing)


def _once_a_life(told: Told) -> Iterator[Finding]:
    """A job that succeeds is performed at most once by each process."""
    performed = Counter((effect.life, effect.key) for effect in told.effects)
    twice = {effect.key for effect in told.effects if effect.what == "charge"}
    for (life, key), count in performed.items():
        if count > (2 if key in twice else 1):
            yield "double", f"effect {key} {count} times in life {life}"


# At the end


def ended(told: Told, tables: Tables, states: Mapping[str, Any]) -> Iterator[Finding]:
    """What must hold when nothing is killed any more and everything had time to finish."""
    for check in (_lists, _counters, _poison, _alarms, _orders, _trips, _flows, _joins):
        yield from check(told, tables, states)


def live(told: Told, tables: Tables) -> Iterator[Finding]:
    """Nothing waits any more, everybody was answered, what can end has ended."""
    for table, count in tables.waiting.items():
        if count:
            yield "not_live", f"{count} rows of {table} wait for ever"
    for op in told.unsettled:
        yield "not_live", f"{op} was never answered"
    for instance, status in tables.status.items():
        is_long = instance.partition("/")[0] in (
            "Lists",
            "Audit",
            "SecondAudit",
            "Counter",
            "Alarm",
            "Books",
        )
        if not is_long and status not in ("completed", "failed"):
            yield "not_live", f"{instance} is {status}"


def _lists(told: Told, tables: Tables, states: Mapping[str, Any]) -> Iterator[Finding]:
    for id, turns in tables.of("Lists"):
        items = list(states[f"Lists/{id}"].items)
        if items != [turns[number].message_id for number in sorted(turns)]:
            yield "reordered", f"list {id} is not in the order of its journal"
        yield from _repeats(items, f"list {id}")
        yield from _in_real_time(told, items, id)
        for saga in ("Audit", "SecondAudit"):
            heard = list(states[f"{saga}/{id}"].items) if f"{saga}/{id}" in states else []
            yield from _repeats(heard, f"{saga} of list {id}")
            for item in set(items) - set(heard):
                yield "vanished", f"{saga} never heard of {item}"
            for item in set(heard) - set(items):
                yield "ghost", f"{saga} heard of {item}, which is not in list {id}"


def _repeats(items: Iterable[str], where: str) -> Iterator[Finding]:
    for item, count in Counter(items).items():
        if count > 1:
            yield "double", f"{item} is in {where} {count} times"


def _in_real_time(told: Told, items: list[str], list_: str) -> Iterator[Finding]:
    """What was acknowledged before another was tried comes before it."""
    first_ack = float("inf")
    for item in reversed(items):
        if item not in told.first_try:
            yield "ghost", f"{item} is in list {list_}, and nobody sent it"
            continue
        if first_ack < told.first_try[item]:
            yield (
                "reordered",
                f"{item} was tried after a later one of list {list_} was acknowledged",
            )
        first_ack = min(first_ack, *(ack.at for ack in told.acks.get(item, [])), float("inf"))


def _counters(told: Told, tables: Tables, states: Mapping[str, Any]) -> Iterator[Finding]:
    for id, turns in tables.of("Counter"):
        before: dict[str, int] = {}
        for number in sorted(turns):
            if turns[number].body.message[0] == "survival.Count":
                before[turns[number].message_id] = len(before) + 1
        total = states[f"Counter/{id}"].total
        if total != len(before):
            yield "double" if total > len(before) else "lost", f"counter {id}: {total} of {before}"
        for op_id, position in before.items():
            for ack in told.acks.get(op_id, []):
                if ack.sequence_nr is not None and ack.reply != position:
                    yield "reordered", f"{op_id} was told {ack.reply}, it was number {position}"


def _poison(told: Told, tables: Tables, states: Mapping[str, Any]) -> Iterator[Finding]:
    if "Audit/poison" in states:
        yield "ghost", "a turn that failed has published"
    for id, op in told.ops.items():
        if op.kind == "spoil" and tables.letters.get(id) != op.number:
            yield "vanished", f"{op} is a dead letter after {tables.letters.get(id)} attempts"


def _alarms(told: Told, tables: Tables, states: Mapping[str, Any]) -> Iterator[Finding]:
    rung = Counter(effect.what for effect in told.effects)
    for id, turns in tables.of("Alarm"):
        fired = {turn.message_id: turn.body.at_ms for turn in turns.values()}
        for number in sorted(turns):
            due_at_ms = turns[number].body.deadlines_set.get("ring")
            if due_at_ms is None:
                continue
            fired_at_ms = fired.get(f"perdure.deadline/ring/{number}")
            if fired_at_ms is not None and fired_at_ms < due_at_ms:
                yield (
                    "early_timer",
                    f"alarm {id}, set in turn {number}, by {due_at_ms - fired_at_ms} ms",
                )
            if fired_at_ms is None and not _is_superseded(turns, number):
                yield "lost_timer", f"alarm {id}, set in turn {number}, never rang"
        rang = states[f"Alarm/{id}"].rang
        yield from _repeats(rang, f"what alarm {id} rang")
        for op_id in rang:
            if not rung[f"ring {op_id}"]:
                yield "vanished", f"nobody heard the ring of {op_id}"


def _is_superseded(turns: Mapping[int, Turn], number: int) -> bool:
    return any(
        later > number
        and ("ring" in turn.body.deadlines_set or "ring" in turn.body.deadlines_cleared)
        for later, turn in turns.items()
    )


def _orders(told: Told, tables: Tables, states: Mapping[str, Any]) -> Iterator[Finding]:
    done: defaultdict[str, set[str]] = defaultdict(set)
    for effect in told.effects:
        if effect.key.startswith("Shop/"):
            done[effect.key.split("/")[1]].add(effect.what)
    for id, _ in tables.of("Shop"):
        state, what = states[f"Shop/{id}"], "pack"
        if state.number % 4 == 0:
            what = "refund"
        expected = ("charged", "packed" if what == "pack" else "refunded")
        if len(state.happened) > len(expected):
            yield "double", f"order {id}: {state.happened}"
        elif state.happened != expected:
            yield "lost", f"order {id}: {state.happened}"
        if done[id] != {"charge", what}:
            yield "comp_order", f"order {id}, number {state.number}: {done[id]}"


def _trips(told: Told, tables: Tables, states: Mapping[str, Any]) -> Iterator[Finding]:
    effects: defaultdict[str, list[str]] = defaultdict(list)
    for effect in told.effects:
        saga, id, *rest = effect.key.split("/")
        if saga == "Trips":
            effects[id].append("/".join(rest))
    for id, _ in tables.of("Trips"):
        fails_at = next(op.number for op in told.ops.values() if op.target == id)
        forth = list(STEPS[:fails_at])
        back = [f"{name}/undo" for name in reversed(forth)] if fails_at < len(STEPS) else []
        if list(dict.fromkeys(effects[id])) != [*forth, *back]:
            yield "comp_order", f"trip {id}, which fails at {fails_at}: {effects[id]}"
        elif _last(effects[id], forth) > _first(effects[id], back):
            yield "comp_order", f"trip {id}: a step was done again when it was being undone"
        wanted = "failed" if back or not fails_at else "completed"
        if tables.status.get(f"Trips/{id}") != wanted:
            yield "not_live", f"trip {id} is {tables.status.get(f'Trips/{id}')}, not {wanted}"


def _last(effects: list[str], names: Iterable[str]) -> int:
    return max((n for n, name in enumerate(effects) if name in names), default=-1)


def _first(effects: list[str], names: Iterable[str]) -> int:
    return min((n for n, name in enumerate(effects) if name in names), default=len(effects))


def _flows(told: Told, tables: Tables, states: Mapping[str, Any]) -> Iterator[Finding]:
    effects: defaultdict[str, list[str]] = defaultdict(list)
    for effect in told.effects:
        if effect.key.startswith("Flows/"):
            effects[effect.key.split("/")[1]].append(effect.key.split("/")[2])
    for id, _ in tables.of("Flows"):
        if list(dict.fromkeys(sorted(effects[id], key=FLOW.index))) != list(FLOW):
            yield "lost", f"flow {id}: {effects[id]}"
        if sorted(effects[id], key=FLOW.index) != effects[id]:
            yield "reordered", f"flow {id}: {effects[id]}"
        if tables.status.get(f"Flows/{id}") != "completed":
            yield "not_live", f"flow {id} is {tables.status.get(f'Flows/{id}')}"


def _joins(told: Told, tables: Tables, states: Mapping[str, Any]) -> Iterator[Finding]:
    for id, _ in tables.of("Join"):
        items = states[f"Join/{id}"].items
        if len(items) > 2:
            yield "double", f"join {id}: {items}"
        elif items != ("left", "right"):
            yield "lost", f"join {id}: {items}"
