"""Every way in which bytes are read, and bytes to try them with: mutated ones of every kind of row.

Next to read: ``tests/fuzz.py``, which goes on for as long as one likes.
"""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable, Iterator
from typing import Any

import msgpack

from perdure.codec import Codec, TypeRegistry
from perdure.codec.journal import JournalCodec
from perdure.codec.outbox import pack_context, pack_job, unpack_context, unpack_job
from perdure.core.commit import OutboxKind, OutboxRow
from perdure.core.instance import Instance, ProcessedMessages
from perdure.core.saga import Definition
from perdure.errors import PerdureError
from perdure.runtime.definitions import definitions_of
from tests.codec.shapes import OrderState, Tree
from tests.sagas import Added, Ledger, LedgerState

__all__ = ["ENTRANCES", "attempt", "inputs", "samples"]

codec = Codec(TypeRegistry([OrderState, Tree, Added, LedgerState]))
journal = JournalCodec(codec)
ledger: Definition = definitions_of([Ledger])["Ledger"]
INSTANCE = Instance("Ledger/x", "x", LedgerState())

ENTRANCES: dict[str, Callable[[bytes], object]] = {
    "message": lambda data: codec.decode("runtime-test.added", 1, data),
    "order": lambda data: codec.decode("codec-test.order-placed", 1, data),
    "value": codec.decode_value,
    "plain": codec.decode_plain,
    "turn": lambda data: journal.decode_entry(ledger, INSTANCE, 1, "m", data),
    "snapshot": lambda data: journal.decode_snapshot("Ledger/x", 1, data, ProcessedMessages(9)),
    "waiting": lambda data: journal.decode_waiting("m", data),
    "headers": journal.headers_of,
    "type": journal.type_of_waiting,
    "context": unpack_context,
    "job": lambda data: unpack_job("Ledger/x", "q", "t", 1, data),
}


def samples() -> list[bytes]:
    """Valid bytes of every kind."""
    added = codec.encode(Added("x", 1))
    turn = [1, 1, False, 5, list(added), 5, None, "c", {"h": "v"}, [list(added)],
            [[1, "q", list(added)]], {"d": 9}, ["e"], "running", None, b"\xc0"]  # fmt: skip
    row = OutboxRow("Ledger/x", 1, 0, OutboxKind.COMMAND, "q", *added, 5, 1)
    known = ProcessedMessages(9)
    known.add("m", 1)
    return [
        added.body,
        codec.encode_value({"a": [1, 2.5, b"x", None], "b": "y"}),
        codec.encode_value(Added("x", 1)),
        msgpack.packb(turn),
        journal.encode_snapshot(INSTANCE, known),
        msgpack.packb([1, 2, False, list(added), 5, "c", "m", {"h": "v"}]),
        pack_context("c", "m", {"h": "v"}),
        pack_job(row),
    ]


SPECIAL = [
    b"", b"\xc1", b"\xc0", b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff",
    b"\xdb\xff\xff\xff\xff", b"\xc7\x0c\xff" + bytes(12),
    b"\xc6\xff\xff\xff\xff", b"\xc9\xff\xff\xff\xff\x01", b"\xd6\xff\0\0\0\1",
    b"\x91" * 2_000 + b"\xc0", b"\x81\xa1a" * 2_000 + b"\xc0", b"\x91" * 900 + b"\xc0",
    b"\xcb\x7f\xf8" + bytes(6), b"\xa3\xed\xa0\x80", b"\x82\xa1a\x01\xa1a\x02",
    b"\xcf" + b"\xff" * 8, b"\xd3\x80" + bytes(7), pickle.dumps({"a": 1}),
    b"cos\nsystem\n(S'true'\ntR.", b"\x81\xcb\x7f\xf8" + bytes(6) + b"\x01", b"\x81\x90\x01",
]  # fmt: skip


def inputs(chance: random.Random) -> Iterator[bytes]:
    """Bytes without end: valid ones with elements replaced, spliced, cut, repeated; and noise."""
    valid = samples()
    while True:
        data = chance.choice(valid)
        for _ in range(chance.randrange(1, 4)):
            data = chance.choice(_MUTATIONS)(data, chance)
        yield data


def _bit(data: bytes, chance: random.Random) -> bytes:
    if not data:
        return data
    raw = bytearray(data)
    raw[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
    return bytes(raw)


def _byte(data: bytes, chance: random.Random) -> bytes:
    place = chance.randrange(len(data) + 1)
    return data[:place] + chance.randbytes(1) + data[place + 1 :]


def _splice(data: bytes, chance: random.Random) -> bytes:
    place, width = chance.randrange(len(data) + 1), chance.randrange(8)
    return data[:place] + chance.choice([*SPECIAL, *samples()]) + data[place + width :]


def _cut(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.randrange(len(data) + 1)]


def _noise(data: bytes, chance: random.Random) -> bytes:
    return chance.randbytes(chance.randrange(60))


def _element(data: bytes, chance: random.Random) -> bytes:
    """One element of the structure in place of another: right bytes of the wrong shape."""
    try:
        value = msgpack.unpackb(data, raw=False, strict_map_key=False)
        return bytes(msgpack.packb(_replaced(value, chance)))
    except Exception:
        return _bit(data, chance)


def _replaced(value: Any, chance: random.Random) -> Any:
    if isinstance(value, list) and value and chance.random() < 0.8:
        place = chance.randrange(len(value))
        return [*value[:place], _replaced(value[place], chance), *value[place + 1 :]]
    if isinstance(value, dict) and value and chance.random() < 0.8:
        key = chance.choice(list(value))
        return {**value, key: _replaced(value[key], chance)}
    return chance.choice(
        [None, True, 0, -1, 2**63, -(2**63), 1.5, float("nan"), "", "\0", "x" * 300, b"", b"\xc1",
         [], {}, [[]], {"a": 1}, {1: 2}, [None] * 20, msgpack.ExtType(5, b"x" * 20),
         msgpack.ExtType(99, b""), ["runtime-test.added", 1, b"\x80"], ["no such type", 1, b""],
         ["runtime-test.added", -1, b""], "running", "no status"]
    )  # fmt: skip


_MUTATIONS = [_bit, _byte, _splice, _cut, _noise, _element, _element, _element]


def attempt(data: bytes) -> dict[str, str]:
    """Try the bytes at every entrance; what was wrong there, which is nothing."""
    wrong: dict[str, str] = {}
    for name, read in ENTRANCES.items():
        try:
            read(data)
        except PerdureError as error:
            if not str(error):
                wrong[name] = "an error without words"
        except Exception as error:
            wrong[name] = f"{type(error).__name__}: {error}"
    return wrong
