"""What must hold after every run, whatever the scenario is.

Over the tables: acknowledged messages are in the journal, once, and those acknowledged as kept are
there, wait, or are dead letters; the tables hold together, by ``perdure.testing.invariants``;
nothing was done outside that no committed turn had asked for. Over the runtime: an instance
is the same live, from snapshot and later turns, and from all its turns.
Next to read: ``world.py``, ``finish``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from perdure.core.instance import Instance, ProcessedMessages
from perdure.core.outcome import Outcome
from perdure.runtime.delivery import Receipt
from perdure.runtime.instances.rehydration import PAGE, fold_loaded
from perdure.runtime.running import Running
from perdure.store.protocol import LoadedInstance
from perdure.testing.invariants import violations
from perdure.testing.simulation.calls import Call
from perdure.testing.simulation.tables import Tables
from perdure.testing.simulation.violation import Violation

__all__ = ["answered_alike", "compare_with_history", "receipts_hold", "tables_agree"]

HEADS = 1_000


KEPT = (Outcome.PARKED, Outcome.HELD, Outcome.QUEUED, Outcome.DELAYED)
"""Answers without a turn that promise one, or a dead letter."""


def receipts_hold(
    tables: Tables, receipts: list[Receipt], buried: Collection[tuple[str, str]]
) -> None:
    """Every acknowledged turn is in the journal (G1), under its number, once (G5); or was purged.

    What was acknowledged as kept is in the journal by now, waits, or is a dead letter; ``buried``
    are those that were one, since people may discard them.
    """
    for receipt in receipts:
        if receipt.sequence_nr is None:
            _is_kept(tables, receipt, buried)
            continue
        instance = f"{receipt.saga}/{receipt.correlation_id}"
        found = tables.all(
            "SELECT sequence_nr FROM journal WHERE instance = ? AND message_id = ?",
            instance,
            receipt.message_id,
        )
        if not found and tables.is_purged(instance, receipt.sequence_nr):
            continue
        if found != [(receipt.sequence_nr,)]:
            turns = ", ".join(str(number) for (number,) in found) or "none"
            raise Violation(
                "an acknowledged message is in the journal, once",
                f"{receipt.message_id} was acknowledged as turn {receipt.sequence_nr} of "
                f"{instance}; in the journal it is: {turns}",
            )


def _is_kept(tables: Tables, receipt: Receipt, buried: Collection[tuple[str, str]]) -> None:
    instance = f"{receipt.saga}/{receipt.correlation_id}"
    name = (instance, receipt.message_id)
    if receipt.outcome in KEPT and name not in buried and not tables.has_message(*name):
        raise Violation(
            "a message that was kept is there",
            f"{receipt.message_id} for {instance} was acknowledged as {receipt.outcome}; it is "
            "neither in the journal, nor in the inbox, nor among the dead letters",
        )


def tables_agree(tables: Tables, window: int) -> None:
    """Journals are whole (G3, G4, G5), and every other table is as they say."""
    for found in violations(tables.connection, window=window):
        raise Violation("the tables agree with the journal", str(found))


def answered_alike(first: Call, again: Call) -> None:
    """A message that is repeated is answered as it was the first time (G5)."""
    one, other = _turns(first), _turns(again)
    for instance in one.keys() & other.keys():
        if one[instance] != other[instance]:
            found = f"{instance}: turn and reply {one[instance]}, then {other[instance]}"
            raise Violation("a repeated message is answered as at first", found)


def _turns(call: Call) -> dict[str, tuple[int, Any]]:
    """Per instance the turn that took the message, and its reply."""
    result = call.result or []
    return {
        f"{receipt.saga}/{receipt.correlation_id}": (receipt.sequence_nr, receipt.reply)
        for receipt in (result if isinstance(result, list) else [result])
        if receipt.sequence_nr is not None
    }


async def compare_with_history(running: Running) -> int:
    """Every instance is what its turns say (G11). How many there are."""
    services, count = running.services, 0
    store, after = services.store, ""
    while heads := await store.heads(None, None, after, HEADS):
        for head in heads:
            definition = running.supervisor.definitions.get(head.saga)
            if definition is None:
                continue
            count += 1
            key = head.instance
            (loaded,) = await store.load([key])
            turns = await store.journal(key, 0, PAGE)
            whole = LoadedInstance(key, None, turns, [], has_more=len(turns) == PAGE)
            seen = {
                "snapshot and later turns": await fold_loaded(services, definition, loaded),
                "all turns": await fold_loaded(services, definition, whole),
            }
            found = {name: folded.instance for name, folded in seen.items()}
            live = running.supervisor.committed(key)
            if live is not None and live.sequence_nr == found["all turns"].sequence_nr:
                found["memory"] = live
            _same(key, found, running)
        after = heads[-1].instance
    return count


def _same(key: str, found: dict[str, Instance], running: Running) -> None:
    wanted = found.pop("all turns")
    for name, instance in found.items():
        for difference in _differences(instance, wanted, running):
            raise Violation(
                "an instance is what its turns say",
                f"{key}, turn {wanted.sequence_nr}, by {name}, not as by all turns: {difference}",
            )


def _differences(one: Instance, other: Instance, running: Running) -> Iterator[str]:
    for name in ("sequence_nr", "status", "deadlines", "started_at_ms", "detail", "family"):
        if getattr(one, name) != getattr(other, name):
            yield f"{name} {getattr(one, name)!r}, not {getattr(other, name)!r}"
    if not _equal(one.state, other.state) and _encoded(one, running) != _encoded(other, running):
        yield f"state {one.state!r}, not {other.state!r}"


def _equal(one: Any, other: Any) -> bool:
    try:
        return bool(one == other)
    except Exception:  # the user's own __eq__
        return False


def _encoded(instance: Instance, running: Running) -> bytes:
    """For states that do not define equality."""
    return running.services.journal.encode_snapshot(instance, ProcessedMessages(1))
