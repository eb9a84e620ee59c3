"""Killed in every step, and in every compensation: what is recorded as done is not done again."""

from __future__ import annotations

import asyncio

import pytest

from perdure import SqlStore
from perdure.codec.journal import JournalCodec
from perdure.runtime.definitions import codec_of
from tests import warm
from tests.runtime import steps_child

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
    command = ["-m", "tests.runtime.steps_child", url, tmp_path, when, what]
    ledger = tmp_path / "ledger"
    known: set[str] = set()
    read = kills = 0
    while True:
        child = warm.run(*command, timeout_s=60)
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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("unknown", "lives", "end"),
    [
        ("retry", 4, "fly (failed, and nobody knows whether it had its effect): "),
        ("compensate", 2, "(compensated)"),
    ],
)
def test_a_step_that_ends_every_process_is_given_up_as_it_declares(unknown, lives, end, tmp_path):
    url = f"sqlite+aiosqlite:///{tmp_path}/store.db"
    command = ["-m", "tests.runtime.steps_child", url, tmp_path, "", unknown]
    for life in range(1, lives + 1):
        child = warm.run(*command, timeout_s=60)
        assert child.returncode == (0 if life == lives else -9), child.stderr
    assert end in child.stdout
    assert "the process ended during the last attempt" in child.stdout
    lines = (tmp_path / "ledger").read_text().splitlines()
    assert lines == ["begin steps-child/t/fly"] * (lives - 1) + (
        [] if unknown == "retry" else ["done steps-child/t/fly/undo"]
    )
