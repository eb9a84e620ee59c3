"""A process in which repairs are killed: each at each point of its turn, in a fork of its own.

    python -m tests.runtime.repair_child FOLDER

Prints a line of JSON for each: what was killed, where, what was left, and how it ended.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sqlite3
import sys
from collections.abc import Awaitable, Callable
from contextlib import closing, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import perdure.failpoints as failpoints
from perdure import Runtime, Settings
from perdure.errors import HandlerFailed, NotRepairable
from perdure.failpoints import Point
from perdure.testing.invariants import violations
from tests.runtime.broken import BAD, Charge, Charged, Noted, Order, Placed, Sale, Shop, till, trip

TRIP = trip()
FAR = datetime(2999, 1, 1, tzinfo=UTC)
POINTS = [*map(Point, ("K1", "K4", "K5", "K6", "K7", "K8")), None]

Do = Callable[[Any, Any, str], Awaitable[Any]]

STEPS: dict[str, Do] = {
    "retried": lambda by, ref, id: by.retry(ref, message_id=id),
    "skipped": lambda by, ref, id: by.skip(ref, "fly", message_id=id),
    "done": lambda by, ref, id: by.mark_done(ref, "fly", {"seat": "x"}, message_id=id),
    "restarted": lambda by, ref, id: by.restart_from(ref, "book", message_id=id),
    "turned-back": lambda by, ref, id: by.compensate(ref, message_id=id),
}
SALES: dict[str, Do] = {
    "charged": lambda by, ref, id: by.mark_done(
        ref, f"{Sale.name}/charged/1/0", Charged("charged", 90), message_id=id
    ),
    "sent": lambda by, ref, id: by.send(ref, Noted("sent", "by hand"), message_id=id),
    "hurried": lambda by, ref, id: by.retry(ref, message_id=id),
    "later": lambda by, ref, id: by.set_deadline(ref, "remind", FAR, message_id=id),
    "never": lambda by, ref, id: by.cancel_deadline(ref, "remind", message_id=id),
    "cancelled": lambda by, ref, id: by.cancel(ref, message_id=id),
    "made-up-for": lambda by, ref, id: by.compensate(ref, message_id=id),
}
LETTERS: dict[str, Do] = {
    "edited": lambda by, letter, id: by.redrive(letter, Noted("edited", "good")),
    "discarded": lambda by, letter, id: by.discard(letter),
    "cheaper": lambda by, letter, id: by.redrive(letter, Charge("cheaper", 5)),
}
ALL = {**STEPS, **SALES, **LETTERS}


class Noting(Shop):
    """A shop whose work is on the disk."""

    path: Path

    def do(self, what: str, job: Any = None) -> None:
        super().do(what, job)
        with self.path.open("a") as file:
            file.write(f"{what} {job.key}\n")


def runtime_in(folder: Path, shop: Shop) -> Runtime:
    shop.path = folder / "done"  # type: ignore[attr-defined]
    url = f"sqlite+aiosqlite:///{folder}/repaired.db"
    settings = Settings(control_socket=False)
    return Runtime(url, [TRIP, Sale, till], settings, resources={"shop": shop})


async def fill(folder: Path) -> None:
    shop = Noting()
    BAD["text"] = "bad"
    async with runtime_in(folder, shop) as runtime:
        for name in STEPS:
            shop.breaks("fly", for_good=name == "restarted")
            await runtime.send(runtime.ref(TRIP, name), Order(name))
            await runtime.settled()
        for name in [*SALES, *LETTERS]:
            shop.breaks("charge 100", for_good=name == "cheaper")
            await runtime.publish(Placed(name))
            await runtime.settled()
        for name, text in (("hurried", "bad"), ("edited", "poison"), ("discarded", "poison")):
            with suppress(HandlerFailed):
                await runtime.send(runtime.ref(Sale, name), Noted(name, text), message_id="note")
        await runtime.settled()


def killed_at(point: Point | None, found: Point) -> None:
    if found == point:
        os.kill(os.getpid(), signal.SIGKILL)


async def repair(folder: Path, name: str, point: Point | None) -> dict[str, Any]:
    """Repair it, and be killed at that point; or live, and tell how it has ended."""
    BAD["text"] = ""
    async with runtime_in(folder, Noting()) as runtime:
        ref = runtime.ref(TRIP if name in STEPS else Sale, name)
        target: Any = ref
        if name in LETTERS:
            letters = [one async for one in runtime.dead_letters.list()]
            target = next((one for one in letters if one.correlation_id == name), None)
        if target is not None:
            failpoints.listener = partial(killed_at, point)
            by_ann = runtime.repair(by="ann", why="killed")
            with suppress(NotRepairable):
                await ALL[name](by_ann, target, f"by hand/{name}")
            failpoints.listener = None
        await runtime.settled()
        view = await runtime.state(ref)
        assert view is not None
        audit = [one.action async for one in runtime.audit(ref)]
        return {"status": view.status, "audit": audit, "state": repr(view.state)}


TABLES = ("outbox", "dead_letters", "inbox", "deadlines")


def left(folder: Path, name: str) -> tuple[int, list[Any]]:
    """How many turns the instance has, and its rows beside them."""
    with closing(sqlite3.connect(folder / "repaired.db")) as connection:
        assert violations(connection) == []
        key = f"{TRIP.name if name in STEPS else Sale.name}/{name}"
        [(turns,)] = connection.execute(
            "SELECT count(*) FROM journal WHERE instance = ?", [key]
        ).fetchall()
        rows = [
            connection.execute(
                f"SELECT * FROM {table} WHERE instance = ? ORDER BY 1, 2", [key]
            ).fetchall()
            for table in TABLES
        ]
        return turns, rows


def in_a_fork(work: Callable[[], Any], result: Path) -> int:
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        result.write_text(json.dumps(work()))
    except BaseException:
        sys.excepthook(*sys.exc_info())
        os._exit(1)
    os._exit(0)


def sweep(folder: Path) -> None:
    whole = folder / "whole"
    whole.mkdir()
    in_a_fork(lambda: asyncio.run(fill(whole)), folder / "filled")
    for name in ALL:
        before = left(whole, name)
        for point in POINTS:
            place = folder / f"{name}-{point}"
            shutil.copytree(whole, place)
            result = place / "result"
            code = in_a_fork(lambda: asyncio.run(repair(place, name, point)), result)  # noqa: B023
            turns, rows = left(place, name)
            is_killed = code == -signal.SIGKILL
            if is_killed:
                code = in_a_fork(lambda: asyncio.run(repair(place, name, None)), result)  # noqa: B023
            left(place, name)
            said = {
                "name": name,
                "point": point,
                "killed": is_killed,
                "code": code,
                "turns": turns - before[0],
                "changed": [t for t, a, b in zip(TABLES, before[1], rows, strict=True) if a != b],
                "did": sorted(set(shop_lines(place)) - set(shop_lines(whole))),
                **(json.loads(result.read_text()) if code == 0 else {}),
            }
            print(json.dumps(said), flush=True)
            shutil.rmtree(place)


def shop_lines(folder: Path) -> list[str]:
    return (folder / "done").read_text().splitlines()


if __name__ == "__main__":
    sweep(Path(sys.argv[1]))
