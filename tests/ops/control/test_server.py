"""The control socket of a runtime: who may ask, what is answered, and what harms nobody."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

from perdure import MemoryStore, Runtime, Settings
from perdure.ops.control import REQUESTS, Control, NoAnswer, Refused, server
from perdure.ops.control.lines import LINE_BYTES_MAX
from perdure.store.lock import holder_of
from perdure.testing import SimulatedClock
from tests.runtime.support import items, quickly, until
from tests.sagas import Ledger


@asynccontextmanager
async def running(path: Path, **settings: Any) -> AsyncIterator[Runtime]:
    url = f"sqlite+aiosqlite:///{path}"
    async with Runtime(url, [Ledger], Settings(**settings)) as runtime:
        yield runtime


@asynccontextmanager
async def asking(path: Path) -> AsyncIterator[Control]:
    control = await Control.over(str(path))
    assert control is not None
    async with control:
        yield control


def raw(path: Path) -> socket.socket:
    """A client that says what it wants."""
    connection = socket.socket(socket.AF_UNIX)
    connection.setblocking(False)
    connection.connect(str(path) + ".control")
    return connection


async def heard(connection: socket.socket) -> bytes:
    """All that is said until the other end hangs up."""
    said = b""
    while more := await asyncio.get_running_loop().sock_recv(connection, 65_536):
        said += more
    return said


async def say(connection: socket.socket, data: bytes) -> None:
    await asyncio.get_running_loop().sock_sendall(connection, data)


def has_socket(path: Path) -> bool:
    return os.path.exists(f"{path}.control")


def opened(id: str = "x") -> dict[str, Any]:
    data = {"id": id}
    return {"saga": "Ledger", "id": id, "type": "runtime-test.opened", "data": data}


@quickly
async def test_a_runtime_over_a_file_listens_for_its_own_user_and_says_where(tmp_path):
    path = tmp_path / "store.db"
    async with running(path) as runtime:
        holder = holder_of(path)
        assert holder is not None
        assert (holder.pid, holder.is_gone) == (os.getpid(), False)
        assert holder.control == f"{path}.control"
        assert stat.S_IMODE(os.stat(holder.control).st_mode) == 0o600
        async with asking(path) as control:
            found = await control.ask("ping")
            assert found["pid"] == os.getpid()
            await control.ask("send", **opened())
        assert await items(runtime, runtime.ref(Ledger, "x")) == []
    assert holder_of(path) is None
    assert not has_socket(path)
    assert await Control.over(str(path)) is None


@pytest.mark.parametrize("how", ["setting", "simulated clock", "memory"])
def test_no_socket_where_none_is_wanted(tmp_path, how):
    @quickly
    async def scenario() -> None:
        path = tmp_path / "store.db"
        store = MemoryStore() if how == "memory" else f"sqlite+aiosqlite:///{path}"
        settings = Settings(control_socket=how != "setting")
        clock = SimulatedClock() if how == "simulated clock" else None
        async with Runtime(store, [Ledger], settings, clock=clock):
            assert not has_socket(path)
            if how != "memory":
                with pytest.raises(NoAnswer, match="it has no control socket"):
                    await Control.over(str(path))

    scenario()


@quickly
async def test_many_ask_at_once_and_each_gets_its_own_answer(tmp_path):
    path = tmp_path / "store.db"
    async with running(path):

        async def one(client: int) -> None:
            async with asking(path) as control:
                asked = [control.ask("send", **opened(id=f"{client}-{n}")) for n in range(20)]
                receipts = await asyncio.gather(*asked)
                assert [receipt["correlation_id"] for receipt in receipts] == [
                    f"{client}-{n}" for n in range(20)
                ]

        await asyncio.gather(*(one(client) for client in range(10)))


@quickly
async def test_what_the_runtime_refuses_comes_with_its_kind_and_remedy(tmp_path):
    path = tmp_path / "store.db"
    async with running(path), asking(path) as control:
        for do, arguments, kind in [
            ("send", {**opened(), "saga": "Nobody"}, "UnknownSaga"),
            ("send", {**opened(), "type": "nothing"}, "UnknownMessageType"),
            ("send", {**opened(), "data": {"id": 7}}, "DecodeError"),
            ("send", {**opened(), "data": [1]}, "DecodeError"),
            ("send", {**opened(), "extra": 1}, "BadRequest"),
            ("send", {"saga": "Ledger"}, "BadRequest"),
            ("queue.pause", {"queue": "nobody", "reason": ""}, "UnknownQueue"),
            ("__class__", {}, "BadRequest"),
        ]:
            with pytest.raises(Refused) as refused:
                await control.ask(do, **arguments)
            assert refused.value.kind == kind
        assert (await control.ask("send", **opened()))["outcome"] == "applied"


GARBAGE = [
    b"hello\n",
    b"[1,2]\n",
    b'{"v":1}\n',
    b'{"v":2,"id":1,"do":"ping","with":{}}\n',
    b'{"v":1,"id":"1","do":"ping","with":{}}\n',
    b"\xff\xfe\x00\n",
    b"[" * 100_000 + b"\n",
    b'{"v":1,"id":' + b"9" * 10_000 + b',"do":"ping"}\n',
    b"x" * (LINE_BYTES_MAX + 100_000),
]


@pytest.mark.parametrize("said", GARBAGE, ids=range(len(GARBAGE)))
def test_whoever_says_what_is_no_request_is_told_and_given_up(tmp_path, said):
    @quickly
    async def scenario() -> None:
        path = tmp_path / "store.db"
        async with running(path), asking(path) as control:
            with closing(raw(path)) as connection:
                telling = asyncio.create_task(say(connection, said))
                answer = json.loads((await heard(connection)).splitlines()[0])
                assert (answer["id"], answer["ok"]) == (None, False)
                assert answer["error"]["type"] == "BadRequest"
                await asyncio.gather(telling, return_exceptions=True)
            assert (await control.ask("ping"))["pid"] == os.getpid()

    scenario()


@quickly
async def test_clients_that_hang_make_room_and_harm_nobody(tmp_path, caplog):
    path = tmp_path / "store.db"
    async with running(path):
        hanging = []
        for _ in range(server.CLIENTS_MAX + 5):
            hanging.append(raw(path))
            await say(hanging[-1], b'{"v":1,')  # never ends
        async with asking(path) as control:
            assert (await control.ask("ping"))["pid"] == os.getpid()
        assert await heard(hanging[0]) == b""  # the first one had to go
        for connection in hanging:
            connection.close()
    assert not [record for record in caplog.records if record.name == "asyncio"]


@quickly
async def test_an_id_that_is_no_text_is_refused_before_it_reaches_the_store(tmp_path):
    path = tmp_path / "store.db"
    async with running(path), asking(path) as control:
        with pytest.raises(Refused, match=r"'id' is 'x.udcff', not valid Unicode") as refused:
            await control.ask("retry", saga="Ledger", id="x\udcff", by="ann", why="none")
        assert refused.value.kind == "BadRequest"


@quickly
async def test_one_that_hangs_up_half_way_gets_the_answers_it_still_reads(tmp_path):
    path = tmp_path / "store.db"
    async with running(path):
        with closing(raw(path)) as connection:
            await say(connection, b'{"v":1,"id":1,"do":"ping"}\n{"v":1,"id":2,"do":"ping"}\n{"v"')
            connection.shutdown(socket.SHUT_WR)
            answers = [json.loads(line)["id"] for line in (await heard(connection)).splitlines()]
        assert sorted(answers) == [1, 2]


@quickly
async def test_a_request_that_takes_too_long_is_answered_so(tmp_path, monkeypatch):
    never = asyncio.Event()

    async def hang(runtime: Runtime, given: Any) -> None:
        await never.wait()

    monkeypatch.setitem(REQUESTS, "hang", hang)
    path = tmp_path / "store.db"
    async with running(path), asking(path) as control:
        with pytest.raises(Refused, match=r"no end of 'hang' within 0\.05 s") as refused:
            await control.ask("hang", within_s=0.05)
        assert refused.value.kind == "SendTimeout"
        assert (await control.ask("ping"))["pid"] == os.getpid()


@quickly
async def test_it_ends_with_the_runtime_whoever_is_connected(tmp_path):
    path = tmp_path / "store.db"
    async with running(path) as runtime:
        idle = raw(path)
        control = await Control.over(str(path))
        assert control is not None
        await runtime.stop()
        assert await heard(idle) == b""
        with pytest.raises(NoAnswer, match="has hung up"):
            await control.ask("ping")
        await control.close()
        idle.close()
        assert not has_socket(path)


@quickly
async def test_a_mistake_of_ours_is_an_answer_and_a_line_in_the_log(tmp_path, monkeypatch, caplog):
    async def broken(runtime: Runtime, given: Any) -> Any:
        raise ZeroDivisionError("oops")

    async def unspeakable(runtime: Runtime, given: Any) -> Any:
        return object()

    monkeypatch.setitem(REQUESTS, "broken", broken)
    monkeypatch.setitem(REQUESTS, "unspeakable", unspeakable)
    path = tmp_path / "store.db"
    async with running(path), asking(path) as control:
        with pytest.raises(Refused, match="oops"):
            await control.ask("broken")
        with pytest.raises(Refused, match="not JSON serializable"):
            await control.ask("unspeakable")
        assert (await control.ask("ping"))["pid"] == os.getpid()
    assert "request 'broken' failed" in caplog.text


@quickly
async def test_another_user_is_hung_up_on(tmp_path, monkeypatch, caplog):
    path = tmp_path / "store.db"
    async with running(path):
        monkeypatch.setattr(server, "peer_uid", lambda connection: os.geteuid() + 1)
        with pytest.raises(NoAnswer, match="has hung up"):
            await Control.over(str(path))
    assert "may not use the control socket" in caplog.text


KILLED = """
import asyncio, os, signal, sys
from perdure import Runtime
from tests.sagas import Ledger

async def main():
    async with Runtime("sqlite+aiosqlite:///" + sys.argv[1], [Ledger]):
        os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


@quickly
async def test_the_socket_of_a_killed_process_is_known_as_such_and_replaced(tmp_path):
    path = tmp_path / "store.db"
    await asyncio.to_thread(subprocess.run, [sys.executable, "-c", KILLED, str(path)], check=False)
    holder = holder_of(path)
    assert holder is not None
    assert holder.is_gone
    assert has_socket(path)
    assert await Control.over(str(path)) is None
    async with running(path), asking(path) as control:
        assert (await control.ask("ping"))["pid"] == os.getpid()


@quickly
async def test_two_stores_of_one_process_have_a_socket_each(tmp_path):
    one, other = tmp_path / "one.db", tmp_path / "other.db"
    async with running(one) as runtime, running(other), asking(one) as control:
        await control.ask("send", **opened())
        await until(lambda: runtime.residents == 1)
        async with asking(other) as second:
            assert (await second.ask("ping"))["residents"] == 0
