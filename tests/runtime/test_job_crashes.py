"""A job that kills its process is a dead letter in the end; the others are done, none doubled."""

from __future__ import annotations

import asyncio

import pytest

from perdure import Runtime
from tests import warm
from tests.runtime import crash_child
from tests.runtime.errands import Undoing, errand_of, letters


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["loop", "threads", "slow"])  # "slow" fails: bug 33
def test_a_job_that_kills_its_process_ends_as_a_dead_letter_and_the_others_are_done(kind, tmp_path):
    url = f"sqlite+aiosqlite:///{tmp_path}/store.db"
    command = ["-m", "tests.runtime.crash_child", url, tmp_path, kind]
    lives = 0
    while True:
        lives += 1
        assert lives <= crash_child.MAX_ATTEMPTS + 2
        code = warm.run(*command, timeout_s=60).returncode
        if code == 0:
            break
        assert code == -9

    async def check() -> None:
        async with Runtime(url, [Undoing]) as runtime:
            found = await letters(runtime)
            assert [(one.correlation_id, one.reason) for one in found] == [("4", "exhausted")]
            assert await runtime.store.outbox() == []
            for number in range(crash_child.ERRANDS):
                state = await errand_of(runtime, str(number), Undoing)
                is_killer = number == 4
                assert state.failed == (("exhausted",) if is_killer else ())
                assert state.done == (() if is_killer else ("do",))

    asyncio.run(check())
    ledgers = {path.name: path.read_text().split() for path in tmp_path.glob("*.ledger")}
    assert len(ledgers) == crash_child.ERRANDS + 3  # and what makes up for the killer
    killer = ledgers.pop("runtime-test.undoing_4_1_0.ledger")
    # The first attempt of the process that sent it is not written before it begins: one more.
    assert len(killer) == crash_child.MAX_ATTEMPTS + 1
    for attempts in ledgers.values():
        assert len(attempts) <= lives
