"""Jobs that somebody who repairs takes out of their workers' reach, until the turn is written.

While some of a queue are seized nothing of it starts. Afterwards they are read back: whatever the
store says of them then is so. Part of the dispatcher, apart for its length. Next to read:
``repair.py``, who seizes; ``jobs/read_back.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from perdure.core.commit import OutboxRow
from perdure.runtime.jobs.runner import Runner
from perdure.runtime.services import Services
from perdure.runtime.supervised import Background

__all__ = ["Seizing"]


class Seizing:
    """The seized jobs of one runtime. ``hand_out`` takes a row that is there, ``gone`` one that is
    not any more; ``tell`` hears of any end."""

    def __init__(
        self,
        services: Services,
        runners: Mapping[str, Runner],
        hand_out: Callable[[OutboxRow], None],
        gone: Callable[[OutboxRow], None],
        tell: Callable[[], None],
    ) -> None:
        self._services = services
        self._runners = runners
        self._hand_out = hand_out
        self._gone = gone
        self._back: list[Sequence[OutboxRow]] = []
        self._reading = Background(
            services.clock,
            services.settings.retry_pause_s,
            "reading jobs that somebody has repaired",
            self._read,
            tell,
        )

    @property
    def is_settled(self) -> bool:
        """Nothing is read; what is to be read again waits for time to pass."""
        return not self._reading.is_running

    def is_at_work(self, row: OutboxRow) -> bool:
        """A worker is at the job, or has just ended."""
        runner = self._runners.get(row.target)
        return runner is not None and runner.state.is_under_way(row.position)

    def seize(self, rows: Sequence[OutboxRow]) -> bool:
        """Nobody begins them from now on; False if some worker is at one, and none is seized."""
        if any(self.is_at_work(row) for row in rows):
            return False
        for runner in self._runners_of(rows):
            runner.held += 1
        return True

    def give_back(self, rows: Sequence[OutboxRow]) -> None:
        """The turn is written, or it is not: they are read, and go on as they are."""
        if rows:
            self._back.append(rows)
            self._reading.start()

    async def stop(self) -> None:
        """Read nothing more: the next runtime finds them."""
        await self._reading.stop()

    async def _read(self) -> None:
        while self._back:
            rows = self._back[0]
            found = await self._services.store.jobs_at([row.position for row in rows])
            self._back.pop(0)
            there = {row.position: row for row in found}
            for row in rows:
                self._forget(row)
                if row.position in there:
                    self._hand_out(there[row.position])
                else:
                    self._gone(row)
            for runner in self._runners_of(rows):
                runner.held -= 1
                runner.pump()

    def _forget(self, row: OutboxRow) -> None:
        runner = self._runners.get(row.target)
        if runner is not None:
            runner.state.done(row.position)

    def _runners_of(self, rows: Sequence[OutboxRow]) -> list[Runner]:
        targets = dict.fromkeys(row.target for row in rows)
        return [self._runners[target] for target in targets if target in self._runners]
