"""Killed in every step: each process goes on where the one before had come to."""

from __future__ import annotations

import asyncio

import pytest

from perdure import SqlStore
from perdure.codec.journal import JournalCodec
from perdure.runtime.definitions import codec_of
from tests import warm
from tests.runtime import workflow_child

ONE_BY_ONE = ["whole/w/first", "whole/w/second", "part/w/part/inner"]
ONE_BY_ONE += [f"whole/w/last:{number}" for number in range(3)]
BESIDE = [f"whole/w/{name}" for name in ("left", "right", "on_loop")]


def finished(url: str) -> set[str]:
    """The keys of the steps whose results are in the journal."""
    codec = codec_of([workflow_child.whole.definition()], [], 1_000_000)
    journal = JournalCodec(codec)

    async def read() -> set[str]:
        store = SqlStore(url)
        await store.open()
        found = set()
        for instance in ("whole/w", "part/w/part"):
            for row in await store.journal(instance, 0, 1_000):
                stored = journal.read_turn(row.body).message
                if stored[0] == "perdure.workflow.StepDone":
                    found.add(codec.decode(*stored).value)
        await store.close()
        return found

    return asyncio.run(read())


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_workflow_killed_in_every_step_resumes_and_repeats_no_finished_one(when, tmp_path):
    url = f"sqlite+aiosqlite:///{tmp_path}/store.db"
    command = ["-m", "tests.runtime.workflow_child", url, tmp_path, when]
    ledger = tmp_path / "ledger"
    known: set[str] = set()
    read = kills = 0
    while True:
        child = warm.run(*command, timeout_s=60)
        lines = ledger.read_text().splitlines()
        begun = {line.removeprefix("begin ") for line in lines[read:] if line.startswith("begin")}
        assert begun, "a process that did nothing"
        assert not begun & known, "what was finished is not done again"
        if child.returncode == 0:
            break
        assert child.returncode == -9, child.stderr
        read, kills, known = len(lines), kills + 1, finished(url)
    assert len(list(tmp_path.glob("*.killed"))) == len(ONE_BY_ONE) + len(BESIDE), "in every step"
    assert len(ONE_BY_ONE) < kills <= len(ONE_BY_ONE) + len(BESIDE), "neighbours perhaps at once"
    expected = [*ONE_BY_ONE[:2], *BESIDE, *ONE_BY_ONE[2:]]
    assert child.stdout == f"{expected}\n"
    for key in ONE_BY_ONE:
        assert lines.count(f"begin {key}") == 2
        assert lines.count(f"done {key}") == (1 if when == "before" else 2)
    for key in BESIDE:  # a neighbour's end may have been lost with the process
        assert 1 <= lines.count(f"done {key}") <= 1 + len(BESIDE)
    print(f"{kills} kills, {len(lines)} lines, nothing finished was repeated")
