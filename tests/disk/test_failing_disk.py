"""A disk that is full, or fails at one call: what was acknowledged is there."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from perdure import Runtime
from tests.disk.tracing import strace
from tests.sagas import Basket


@dataclass
class Story:
    """What a child told of its sends, and what the next runtime found."""

    said: list[str]
    errors: str

    def ids(self, word: str) -> list[str]:
        return [line.split()[1] for line in self.said if line.startswith(f"{word} ")]


async def found_in(file: Path) -> list[str]:
    """The ids in the journal, as the next runtime finds them."""
    async with Runtime(f"sqlite:///{file}", [Basket]) as runtime:
        return [turn.message_id async for turn in runtime.history(runtime.ref(Basket, "x"))]


def story_of(*command: str) -> Story:
    done = subprocess.run(
        [*command],
        capture_output=True, text=True, check=False, timeout=100,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return Story(done.stdout.splitlines(), done.stderr)


def child(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "tests.disk.failing_child", *arguments]


def test_where_there_is_no_room_sends_are_refused_and_reads_go_on_until_there_is(tmp_path):
    story = story_of(*child(f"{tmp_path}/store.db", "14", "200000"))
    acknowledged, refused = story.ids("ok"), story.ids("no")
    assert story.said.index("room") < len(story.said) - 2
    assert story.ids("reads") == [refused[0][2:]]
    assert asyncio.run(found_in(tmp_path / "store.db")) == acknowledged
    assert len(acknowledged) == 14 - len(refused)


@pytest.mark.skipif(bool(strace()), reason=strace() or "-")
@pytest.mark.parametrize(
    ("fault", "goes_on"),
    [
        ("fdatasync:error=EIO:when=6", False),
        ("pwrite64:error=EIO:when=90", True),
        ("pwrite64:error=ENOSPC:when=90", True),
    ],
)
def test_a_call_that_fails(tmp_path, fault, goes_on):
    file = Path(tmp_path).resolve() / "store.db"
    name = fault.partition(":")[0]
    paths = [argument for suffix in ("", "-wal") for argument in ("-P", f"{file}{suffix}")]
    inject = ["strace", "-f", "-o", f"{tmp_path}/log", *paths, "-e", f"trace={name}"]
    story = story_of(*inject, "-e", f"inject={fault}", *child(str(file), "8"))
    assert "INJECTED" in (tmp_path / "log").read_text()
    acknowledged, refused = story.ids("ok"), story.ids("no")
    assert len(acknowledged) + len(refused) == 8
    found = asyncio.run(found_in(file))
    assert [id for id in found if id in acknowledged] == acknowledged
    assert len(set(found)) == len(found)
    if goes_on:
        assert acknowledged[-1] == "m-7"
    else:  # after a failed sync nothing that follows would prove anything
        assert refused
        assert acknowledged == [f"m-{n}" for n in range(len(acknowledged))]
