"""What a service holds of a cluster is a runtime like any other."""

import asyncio
import logging
import os
import re
import socket
import threading
from contextlib import asynccontextmanager
from importlib.metadata import version
from inspect import signature
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from perdure import MemoryStore, Observer, Runtime, Settings, WorkQueue, message
from perdure.cluster import Cluster, ClusterSettings
from perdure.core.outcome import Outcome
from perdure.errors import (
    DefinitionError,
    Escalated,
    RuntimeNotRunning,
    StoreError,
    StoreLocked,
    StoreUnavailable,
)
from perdure.ops.prometheus import Metrics
from perdure.runtime.clock import SystemClock
from perdure.runtime.watching.vitals import Phase
from perdure.testing import SimulatedClock
from tests.cluster.hosting import SOON
from tests.cluster.members import owns
from tests.cluster.support import session_of
from tests.runtime.frail import TRIED, Escalating, born, fetching, hit, seen
from tests.runtime.support import add, in_loop, items, open_ledger
from tests.sagas import Ledger, Opened, Patient
from tests.servers.databases import run_sql


def on(test):
    """Run the coroutine function over a fresh database."""

    def run(postgres):
        in_loop(30)(test)(postgres)

    def run_with(postgres, caplog):
        in_loop(30)(test)(postgres, caplog)

    found = run_with if "caplog" in signature(test).parameters else run
    found.__name__, found.__doc__ = test.__name__, test.__doc__
    return found


def cluster(url, name, **more) -> Any:
    return Cluster(url, [Ledger], cluster=more.pop("cluster", SOON), name=name, **more)


@on
async def test_one_process_alone_is_a_runtime_with_sixteen_shards(url):
    runtime: Any = cluster(url, "a")
    assert str(runtime.phase) == "new"
    async with runtime:
        assert str(runtime.phase) == "running"
        assert len(runtime.host.owned) == 16
        for n in range(20):
            ref = await open_ledger(runtime, f"o-{n}")
            await add(runtime, ref, 1, 2)
            assert await items(runtime, ref) == [1, 2]
        await runtime.settled()
        assert runtime.residents == 20
        vitals = runtime.vitals()
        assert (vitals.residents, vitals.is_ready, vitals.troubles) == (20, True, ())
        [row] = await runtime.hosts()
        assert (row.name, len(row.shards)) == ("a", 16)
    assert runtime.phase is Phase.STOPPED
    async with cluster(url, "again") as runtime:
        assert await items(runtime, runtime.ref(Ledger, "o-7")) == [1, 2]


@asynccontextmanager
async def two(url):
    """Two processes in one, eight shards each."""
    async with cluster(url, "a") as a, cluster(url, "b") as b:
        while (len(a.host.owned), len(b.host.owned)) != (8, 8):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        yield a, b


@on
async def test_either_of_two_takes_messages_for_all(url):
    async with two(url) as (a, b):
        for n in range(12):
            through, other = (a, b) if n % 2 else (b, a)
            ref = await open_ledger(through, f"o-{n}")
            await add(other, other.ref(Ledger, f"o-{n}"), 1, 2)
            await add(through, ref, 3)
            assert await items(other, other.ref(Ledger, f"o-{n}")) == [1, 2, 3]
        await asyncio.gather(a.settled(), b.settled())
        assert a.residents + b.residents == 12


@on
async def test_a_drained_process_still_takes_messages(url):
    async with two(url) as (a, _):
        ref = await open_ledger(a, "x")
        await a.drain()
        assert not a.host.owned
        await add(a, ref, 1)
        assert await items(a, ref) == [1]
        assert a.vitals().is_ready
        assert a.residents == 0


@on
async def test_messages_go_on_while_shards_change_hands(url):
    async def sends(runtime, name):
        ref = await open_ledger(runtime, name)
        for n in range(30):
            await add(runtime, ref, n)

    async with cluster(url, "a") as a:
        sending = [asyncio.create_task(sends(a, f"o-{n}")) for n in range(10)]
        async with cluster(url, "b") as b:
            await owns(b, 8)
        await asyncio.gather(*sending)
        for n in range(10):
            assert await items(a, a.ref(Ledger, f"o-{n}")) == list(range(30))


@on
async def test_a_process_says_once_what_it_is_and_is_named_by_its_machine_and_pid(url):
    said = Said()
    logging.getLogger("perdure").addHandler(said)
    logging.getLogger("perdure").setLevel(logging.INFO)
    try:
        async with cluster(url, None) as runtime:
            assert runtime.name == f"{socket.gethostname()}-{os.getpid()}"
            [line] = [one for one in said.lines if "running over" in one]
            assert f"as {runtime.name}, one process of a cluster: 16 of 16 shards" in line
    finally:
        logging.getLogger("perdure").removeHandler(said)
        logging.getLogger("perdure").setLevel(logging.NOTSET)


class Said(logging.Handler):
    """What is told at INFO and above."""

    def __init__(self):
        super().__init__(logging.INFO)
        self.lines = []

    def emit(self, record):
        self.lines.append(record.getMessage())


@on
async def test_a_process_that_takes_no_shards_sends_and_looks(url):
    idle = ClusterSettings(takes_shards=False)
    async with cluster(url, "pod"), cluster(url, "web", cluster=idle) as web:
        ref = await open_ledger(web, "x")
        await add(web, ref, 1)
        assert await items(web, ref) == [1]
        assert not web.host.owned


@on
async def test_a_runtime_alone_and_a_cluster_refuse_each_other(url):
    async with Runtime(url, [Ledger]) as alone:
        await open_ledger(alone, "x")
        owner = re.escape(f"owned by {socket.gethostname()} (pid {os.getpid()}), alone")
        with pytest.raises(StoreLocked, match=owner):
            await cluster(url, "a").start()
    async with cluster(url, "a") as a:
        with pytest.raises(StoreLocked, match=r"a \(pid"):
            await Runtime(url, [Ledger]).start()
        assert await items(a, a.ref(Ledger, "x")) == []


@on
async def test_assigned_shards_are_taken_from_whoever_has_them(url):
    async with cluster(url, "old", assigned=range(16)) as old:
        ref = await open_ledger(old, "x")
        await add(old, ref, 1)
        async with cluster(url, "new", assigned=range(16)) as new:
            await old.stopped()
            await add(new, new.ref(Ledger, "x"), 2)
            assert await items(new, new.ref(Ledger, "x")) == [1, 2]


@on
async def test_observers_and_the_loop_watch_are_there_once(url):
    heard = []

    class Hears(Observer):
        def runtime_started(self):
            heard.append("started")

        def runtime_stopped(self):
            heard.append("stopped")

        def process_started(self, event):
            heard.append(event.process_id)

    async with cluster(url, "a", observers=[Hears()]) as runtime:
        watches = [t for t in threading.enumerate() if t.name == "perdure-loop-watch"]
        assert len(watches) == 1
        await open_ledger(runtime, "x")
        runtime.observe(late := Hears())
        await open_ledger(runtime, "y")
        runtime.unobserve(late)
    assert heard == ["started", "x", "y", "y", "stopped"]


@on
async def test_a_clock_that_is_wrong_is_told_and_decides_nothing(url, caplog):
    class Ahead(SystemClock):
        def now_ms(self):
            return super().now_ms() + 3_600_000

    async with cluster(url, "right") as right, cluster(url, "wrong", clock=Ahead()) as wrong:
        while not wrong.vitals().troubles or len(right.host.owned) != 8:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        [trouble] = wrong.vitals().troubles
        assert "3600.0 s ahead of the database's" in trouble.error
        assert "3600.0 s ahead of the database's: deadlines fire by it" in caplog.text
        refs = [await open_ledger(right, f"o-{n}") for n in range(8)]
        for n in range(4):  # whose shard it is, and who is alive, the database's clock says
            await asyncio.gather(*(add((right, wrong)[n % 2], ref, n) for ref in refs))
        assert [await items(wrong, ref) for ref in refs] == [[0, 1, 2, 3]] * 8
        assert (len(right.host.owned), len(wrong.host.owned)) == (8, 8)


@on
async def test_processes_of_two_versions_work_side_by_side_and_it_is_said(url, caplog):
    older = session_of(url, "older")  # of version "0"
    await older.open()
    async with cluster(url, "newer") as runtime:
        await open_ledger(runtime, "x")
        found = {row.name: row.version for row in await runtime.hosts()}
        assert found == {"older": "0", "newer": version("perdure")}
    said = f"this process is of perdure {version('perdure')}, and older of 0"
    assert [said in line for line in caplog.messages].count(True) == 1
    await older.close()


@on
async def test_a_number_of_shards_that_was_changed_by_hand_is_refused(url):
    await run_sql(url, "UPDATE perdure.meta SET shards = 32")
    with pytest.raises(
        StoreError, match=r"number of shards .* was changed: it is 32 .*, and 16 in"
    ):
        await cluster(url, "a").start()


@on
async def test_it_can_be_started_again_and_not_twice(url):
    runtime = cluster(url, "a")
    for _ in range(2):
        async with runtime:
            with pytest.raises(RuntimeNotRunning):
                await runtime.start()
            await open_ledger(runtime, "x")
    with pytest.raises(RuntimeNotRunning):
        _ = runtime.host


def test_what_cannot_be_a_cluster_is_refused_at_once():
    with pytest.raises(DefinitionError, match="memory"):
        Cluster("memory://", [Ledger])
    anything: Any = MemoryStore()
    with pytest.raises(DefinitionError, match="PostgreSQL"):
        Cluster(anything, [Ledger])
    with pytest.raises(DefinitionError, match="lease"):
        ClusterSettings(lease_s=1.0)
    with pytest.raises(DefinitionError, match="beat_s"):
        ClusterSettings(beat_s=0)
    anything = Settings()
    with pytest.raises(DefinitionError, match="cluster="):
        Cluster("postgresql://host/db", [Ledger], cluster=anything)
    with pytest.raises(DefinitionError, match="real time"):
        Cluster("postgresql://host/db", [Ledger], clock=SimulatedClock())


@on
async def test_shards_that_there_are_not_cannot_be_assigned(url):
    with pytest.raises(DefinitionError, match="16"):
        await cluster(url, "a", assigned=[3, 16]).start()


@in_loop(20)
async def test_no_database_is_said_at_the_start():
    runtime = Cluster("postgresql://nobody@127.0.0.1:1/nothing", [Ledger])
    with pytest.raises(StoreUnavailable):
        await runtime.start()
    assert runtime.phase is not Phase.RUNNING


def test_a_saga_that_only_newer_code_knows_is_named_and_its_instances_wait(postgres, caplog):
    in_loop(30)(newer_then_older)(postgres, caplog)


async def newer_then_older(url, caplog):
    newer = Cluster(url, [Ledger, Patient], cluster=SOON, name="newer")
    async with newer:
        for n in range(6):
            await newer.send(newer.ref(Patient, f"p-{n}"), Opened(f"p-{n}"))
    async with cluster(url, "older") as older:
        while sum(older.host.strangers.instances.values()) < 6:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        [trouble] = older.vitals().troubles
        assert trouble.what == "saga 'Patient'"
        assert "6 instances wait" in trouble.error
        assert caplog.text.count("instances of saga 'Patient'") == 1
    async with newer:
        assert await newer.state(newer.ref(Patient, "p-3")) is not None
        assert newer.vitals().troubles == ()


@on
async def test_metrics_of_a_process_count_all_its_shards_and_each_thing_once(url):
    registry = CollectorRegistry()
    runtime = cluster(url, "a")
    runtime.observe(metrics := Metrics(runtime, registry=registry))
    async with runtime:
        for n in range(12):
            await add(runtime, await open_ledger(runtime, f"o-{n}"), 1)
        await metrics.refresh()
        text = generate_latest(registry).decode()
        assert "perdure_resident_processes 12.0" in text
        assert 'perdure_turns_total{outcome="applied",process_type="Ledger"} 24.0' in text
        assert 'perdure_active_processes{process_type="Ledger"} 12.0' in text


@message(name="front-test.work")
class Work:
    number: int


@on
async def test_what_workers_are_at_is_done_before_their_shard_goes_elsewhere(url):
    began, gate, done = asyncio.Semaphore(0), asyncio.Event(), []

    def process(name) -> Any:
        queue = WorkQueue("front-test", concurrency=4)

        @queue.worker
        async def work(command: Work) -> None:
            began.release()
            await gate.wait()
            done.append((name, command.number))

        return Cluster(url, [queue], cluster=SOON, name=name)

    async with process("a") as a, process("b") as b:
        await a.drain()
        await owns(b, 16)
        for number in range(8):
            await b.enqueue(Work(number))
        for _ in range(4):
            await began.acquire()
        await b.hosts()  # and what is in its shards had time to begin
        assert b.running._watch.is_busy()
        assert began.locked(), "four at a time in a process, whatever their shards are"
        draining = asyncio.create_task(b.drain())
        assert draining is not None
        async with process("c") as c:
            gate.set()
            await draining
            await owns(c, 16)
            while len(done) < 8:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            await c.settled()
        assert sorted(number for _, number in done) == list(range(8))
        assert sum(name == "b" for name, _ in done) >= 4


@on
async def test_a_saga_that_escalates_stops_the_process_and_loses_nothing(url):
    TRIED.clear()

    def process():
        return Cluster(url, [Escalating, fetching()], cluster=SOON)

    async def serve(runtime):
        async with runtime:
            ref = await born(runtime, Escalating)
            assert await hit(runtime, ref, 1, fails=1) is Outcome.DELAYED
            await runtime.stopped()

    runtime = process()
    with pytest.raises(Escalated, match="shaken"):
        await serve(runtime)
    assert runtime.phase is Phase.STOPPED
    async with process() as runtime:
        await runtime.settled()
        assert await seen(runtime, runtime.ref(Escalating, "x")) == (1,)


def test_what_nobody_performs_is_said_once_in_a_process(postgres, caplog):
    in_loop(30)(adds_without_workers)(postgres)
    assert caplog.text.count("nobody performs the jobs of queue 'runtime-test.ship'") == 1


async def adds_without_workers(url):
    async with cluster(url, "a") as runtime:
        for n in range(8):
            await add(runtime, await open_ledger(runtime, f"o-{n}"), 1)
