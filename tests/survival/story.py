"""Lives one after another on one store, each looked at when it is over, and the end of them all.

    with Zygote() as zygote:
        with Story(zygote, folder, "7") as story:
            story.live(point="K6", nth=4)          # killed, restarted by the next life
            story.end()
            assert not story.findings

Next to read: ``life.py`` (one life), ``places.py`` (where), ``checks.py`` (what must hold).
"""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any, Self

from perdure import Runtime
from perdure.runtime.looking.views import InstanceView
from tests.survival import ledger
from tests.survival.checks import Finding, Tables, Told, ended, kept, live, sound
from tests.survival.places import FilePlace, Place
from tests.survival.sagas import members

ROOT = Path(__file__).parents[2]


def _asked(process: subprocess.Popen[str], line: str | None = None) -> str:
    """Give the process a line, and take its answer."""
    if line is not None:
        assert process.stdin is not None
        process.stdin.write(line + "\n")
        process.stdin.flush()
    assert process.stdout is not None
    answer = process.stdout.readline()
    if not answer:
        raise RuntimeError(f"{process.args!r} has ended with {process.wait()}")
    return answer


class Zygote:
    """The process that forks lives."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.survival.zygote"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, text=True,
        )  # fmt: skip
        _asked(self._process)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def live(self, **life: Any) -> int:
        """A life from its birth to its end; the wait status."""
        status: int = json.loads(_asked(self._process, json.dumps(life)))["status"]
        return status


class Story:
    """One place, its lives, their ledger. ``findings`` is everything that was wrong."""

    def __init__(
        self,
        zygote: Zygote,
        folder: Path,
        seed: str,
        settings: dict[str, Any] | None = None,
        mutant: str = "",
        place: Callable[[Path], Place] = FilePlace,
    ) -> None:
        self.seed = seed
        self.place = place(folder / f"{seed}.db")
        self.findings: list[Finding] = []
        self.kills = 0
        self._turns = self._open = 0
        self._zygote = zygote
        self._chance = random.Random(seed)
        self._settings = settings
        self._mutant = mutant
        self._lives = 0
        self._ledger = folder / f"{seed}.ledger"
        self._short = tempfile.mkdtemp(prefix="perdure-")  # addresses of sockets must be short
        self.told = Told(self._ledger)

    def __enter__(self) -> Self:
        self._outside = subprocess.Popen(
            [sys.executable, "-S", ledger.__file__, self._address, str(self._ledger)],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        _asked(self._outside)
        self.place.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.place.close()
        self._outside.kill()
        self._outside.communicate()
        shutil.rmtree(self._short)

    @property
    def _address(self) -> str:
        return f"{self._short}/s"

    def live(self, **life: Any) -> int:
        """One life after those before it, then a look at what it has left; its wait status."""
        self._lives += 1
        settings = self._settings
        if settings is None:
            every, batch = self._chance.randint(1, 3), self._chance.randint(1, 8)
            settings = {"snapshot_every": every, "batch_max": batch}
        status = self._zygote.live(
            url=self.place.url,
            outside=self._address,
            seed=f"{self.seed}-{self._lives}",
            settings=settings,
            mutant=self._mutant,
            **{"ops": self.told.unsettled, **life},
        )
        _asked(self._outside)
        is_killed = status == -signal.SIGKILL
        if status not in (0, -signal.SIGKILL):
            self._find([("not_live", f"life {self._lives} ended with {status}")])
        self.look()
        self.kills += is_killed
        self._open += is_killed and len(self.told.unsettled)
        return status

    def look(self) -> Tables:
        """Nobody lives: what is broken, what is lost?"""
        self.told.read()
        with closing(sqlite3.connect(self.place.tables(), isolation_level=None)) as connection:
            self._find(sound(connection))
            tables = Tables.read(connection)
        self._find(kept(self.told, tables))
        self._turns = tables.turns
        return tables

    def end(self) -> None:
        """Let the faults stop, then see that everything has come to its end."""
        ops = [*self.told.unsettled, *self.told.one_sided]
        self.live(heals=True, ops=ops)
        tables = self.look()
        self._find(live(self.told, tables))
        if not any(tables.waiting.values()):  # else whoever looks at the states would change them
            states, folded = self.states()
            for instance in states.keys() | folded.keys():
                if states.get(instance) != folded.get(instance):
                    self._find([("state_mismatch", f"{instance}: with snapshots it is another")])
            self._find(ended(self.told, tables, states))

    def _find(self, findings: Iterable[Finding]) -> None:
        self.findings += [finding for finding in findings if finding not in self.findings]

    def counted(self) -> Counter[str]:
        """How much has happened."""
        told = self.told
        return Counter(
            lives=self._lives,
            kills=self.kills,
            open=self._open,
            tried=len(told.ops),
            copies=told.tries.total(),
            acknowledged=len(told.acks),
            refused=sum(1 for id in told.refused if id not in told.acks),
            unknown=told.unknown.total(),
            effects=len(told.effects),
            turns=self._turns,
            stops=len(told.stops),
        )

    def states(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """All states as fresh runtimes have them: with the snapshots, and from the journals."""
        folded = FilePlace(self.place.without_snapshots())
        return asyncio.run(read_states(self.place.url)), asyncio.run(read_states(folded.url))


async def read_states(url: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    outside: Any = None
    every = members()
    async with Runtime(url, every, resources={"outside": outside}) as runtime:
        for member in every[:-1]:
            view: InstanceView
            async for view in runtime.instances(member):
                found[f"{view.saga}/{view.correlation_id}"] = view.state
    return found
