"""What the tests of the command line share: a runtime on a thread of its own, and commands."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from perdure import Runtime, Settings
from perdure.ops.cli import main
from tests.sagas import Flaky, Ledger

__all__ = ["Command", "Live", "filled"]


class Live:
    """A runtime that lives beside the test, on an event loop of its own."""

    def __init__(self, path: Path, members: Iterable[Any] = (Ledger, Flaky), **more: Any) -> None:
        self.path = path
        resources = more.pop("resources", None)
        url = f"sqlite+aiosqlite:///{path}"
        self.runtime = Runtime(url, members, Settings(**more), resources=resources)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Have a coroutine run on the runtime's loop."""
        future: Future[Any] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return future.result(20)

    def send(self, saga: Any, id: str, *messages: Any) -> None:
        """Send messages to an instance."""
        for message in messages:
            self.do(self.runtime.send(self.runtime.ref(saga, id), message))

    def block(self, until: threading.Event) -> None:
        """Have user code block the loop."""
        self._loop.call_soon_threadsafe(until.wait, 20)

    def __enter__(self) -> Self:
        self._thread.start()
        self.do(self.runtime.start())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.do(self.runtime.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Command:
    """Types commands over one store, in this process."""

    def __init__(self, path: Path, read: Callable[[], Any]) -> None:
        self.path = path
        self._read = read
        self.out = self.err = ""

    def __call__(self, *words: str, exits: int = 0) -> str:
        """What it prints, having exited so."""
        self._read()
        code = main([*words, *(["--store", str(self.path)] if "--" not in words else [])])
        self.out, self.err = self._read()
        assert code == exits, self.out + self.err
        return self.out

    def rows(self, *words: str, exits: int = 0) -> list[Any]:
        """The lines of JSON it prints."""
        return [json.loads(line) for line in self(*words, "--json", exits=exits).splitlines()]

    def document(self, *words: str, exits: int = 0) -> Any:
        """The one document it prints."""
        (found,) = self.rows(*words, exits=exits)
        return found


@pytest.fixture
def perdure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    def read() -> tuple[str, str]:
        captured = capsys.readouterr()
        return captured.out, captured.err

    return Command(tmp_path / "store.db", read)


def filled(path: Path, fill: Callable[[Live], None], **more: Any) -> None:
    """A store that a runtime has filled, and left."""
    with Live(path, **more) as live:
        fill(live)
