"""Killed in every step, and in every compensation: what is recorded as done is not done again."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from perdure import SqlStore
from perdure.codec.journal import JournalCodec
from perdure.runtime.definitions import codec_of
from tests.runtime import steps_child

ROOT = Path(__file__).parents[2]
KEYS = {
    "saga": ["visa", "hotel", "train", "train/undo", "hotel/undo"],
    "workflow": ["visa", "hotel", "train"],
}
END = {
    "saga": "fly: perdure.errors.NonRetryable: full (compensated)\n",
    "workflow": "Trip(id='t', done=('visa', 'hotel', 'train'))\n",
}


def finished(url: str, what: str) -> set[str]:
    """The keys of the steps and compensations whose ends are in the journal."""
    codec = codec_of([steps_child.member(what).definition()], [], 1_000_000)
    journal = JournalCodec(codec)

    async def read() -> set[str]:
        store = SqlStore(url)
        await store.open()
        found = set()
        for row in await store.journal("steps-child/t", 0, 1_000):
            stored = journal.read_turn(row.body).message
            if stored[0] in ("perdure.StepCompleted", "perdure.StepCompensated"):
                is_undone = stored[0] == "perdure.StepCompensated"
                found.add(codec.decode(*stored).step + ("/undo" if is_undone else ""))
        await store.close()
        return found

    return asyncio.run(read())


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("what", ["saga", "workflow"])
def test_killed_in_every_step_it_goes_on_and_repeats_no_finished_one(what, when, tmp_path):
    url = f"sqlite+aiosqlite:///{tmp_path}/store.db"
    command = [sys.executable, "-m", "tests.runtime.steps_child", url, str(tmp_path), when, what]
    ledger = tmp_path / "ledger"
    known: set[str] = set()
    read = kills = 0
    while True:
        child = subprocess.run(
            command, check=False, cwd=ROOT, timeout=60, capture_output=True, text=True
        )
        lines = ledger.read_text().splitlines()
        keys = [line.replace("steps-child/t/", "") for line in lines]
        begun = {key.removeprefix("begin ") for key in keys[read:] if key.startswith("begin ")}
        assert not begun & known, "what was finished is not done again"
        if child.returncode == 0:
            break
        assert child.returncode == -9, child.stderr
        read, kills, known = len(lines), kills + 1, finished(url, what)
        assert len(known) == kills - 1, "one step further with each life"
    assert child.stdout == END[what]
    assert kills == len(KEYS[what])
    for key in KEYS[what]:
        assert keys.count(f"begin {key}") == 2
        assert keys.count(f"done {key}") == (1 if when == "before" else 2)
    done = [key.removeprefix("done ") for key in keys if key.startswith("done ")]
    assert list(dict.fromkeys(done)) == KEYS[what], "undone in reverse order"
