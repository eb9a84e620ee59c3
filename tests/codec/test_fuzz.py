"""Mutated bytes of every kind of row and message, at every entrance, in a process of its own."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.codec.wire import unpack_row
from perdure.errors import DecodeError, LimitExceeded, PerdureError
from tests.codec.hostile import ENTRANCES, SPECIAL, attempt, inputs, journal, samples
from tests.fuzz import fuzz


def test_nothing_runs_and_only_our_errors_come_within_bounded_memory():
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "--count", "1500", "--seed", "5"],
        capture_output=True, text=True, check=False, timeout=100,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["inputs"] == 1500


def test_the_witness_sees_a_file_that_is_opened():
    source = "from tests.fuzz import watch_for_code; watch_for_code(); open('/dev/null')"
    done = subprocess.run(
        [sys.executable, "-c", source],
        capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.returncode == 3
    assert "led to open" in done.stderr


@given(st.randoms(use_true_random=False))
def test_any_mutation_is_a_typed_error_or_a_value(chance: random.Random) -> None:
    assert attempt(next(inputs(chance))) == {}


@pytest.mark.parametrize("data", SPECIAL, ids=range(len(SPECIAL)))
def test_what_is_known_to_be_nasty(data: bytes) -> None:
    assert attempt(data) == {}


def test_valid_bytes_are_read_where_they_belong() -> None:
    read = set()
    for data in samples():
        for name, entrance in ENTRANCES.items():
            try:
                entrance(data)
            except PerdureError:
                continue
            read.add(name)
    assert read >= {"message", "value", "turn", "snapshot", "waiting", "context", "job"}


@pytest.mark.parametrize(
    "bomb",
    [b"\xdd\x00\x98\x96\x80" + b"\x90" * 10_000_000, b"\x91" * 300_000 + b"\xc0"],
    ids=["10 M empty arrays", "deep"],
)
def test_a_large_row_is_looked_over_before_anything_is_built(bomb: bytes) -> None:
    with pytest.raises(LimitExceeded):
        unpack_row(bomb)


def test_a_row_of_a_later_format_is_not_read_as_one_of_today() -> None:
    turn = msgpack.unpackb(samples()[3])
    assert journal.read_turn(msgpack.packb(turn)).format == 1
    with pytest.raises(DecodeError, match="format 2"):
        journal.read_turn(msgpack.packb([2, *turn[1:]]))


def test_the_fuzzer_tells_what_it_measures() -> None:
    done = fuzz(20, None, 3)
    assert done.inputs == 20
    assert done.largest_peak > 0
    assert not done.wrong
