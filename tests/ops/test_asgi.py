"""The endpoints of a service: liveness, readiness, health, metrics, over ASGI."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette
from starlette.routing import Mount

from perdure import Effects, ProcessManager, Runtime, Settings, Supervision, message, starts
from perdure.errors import Escalated, StoreUnavailable
from perdure.ops.asgi import endpoints
from perdure.ops.prometheus import Metrics
from perdure.ops.thresholds import Thresholds
from tests.runtime.support import open_ledger, quickly, until
from tests.sagas import Added, Ledger

LIMITS = Thresholds(disk_free=None, critical_disk_free=None)
FOR_EVER = 1_000_000


@message(name="asgi-test.failed")
class Failed:
    id: str


@dataclass(frozen=True)
class Nothing:
    """The state of who never begins."""


class Grave(ProcessManager[Nothing]):
    supervision = Supervision.escalate()

    @starts(Failed, by="id")
    def failed(self, state: Nothing, event: Failed, do: Effects) -> None:
        raise ValueError("no ledger")


def asking(app: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://ops")


def of(runtime: Any, **options: Any) -> httpx.AsyncClient:
    return asking(endpoints(runtime, **{"thresholds": LIMITS, "keep_s": 0.0, **options}))


async def codes(http: httpx.AsyncClient) -> tuple[int, ...]:
    """Of liveness, readiness and health."""
    paths = ("/health/live", "/health/ready", "/health")
    return tuple([(await http.get(path)).status_code for path in paths])


@quickly
async def test_a_runtime_is_ready_from_its_start_to_its_stop(memory):
    runtime = Runtime(memory, [Ledger])
    async with of(runtime) as http:
        assert await codes(http) == (200, 503, 200)
        async with runtime:
            assert await codes(http) == (200, 200, 200)
            assert (await http.get("/health")).json()["issues"] == []
        assert await codes(http) == (503, 503, 503)


@quickly
async def test_a_runtime_that_stops_lives_and_is_not_ready(memory):
    runtime = Runtime(memory, [Ledger])
    await runtime.start()
    ref = await open_ledger(runtime)
    async with of(runtime, keep_s=60.0) as http:
        assert await codes(http) == (200, 200, 200)
        memory.hold_writes()
        sending = asyncio.create_task(runtime.send(ref, Added("x", 1)))
        await until(lambda: runtime.vitals().writing_s > 0)
        stopping = asyncio.create_task(runtime.stop())
        await until(lambda: runtime.phase == "stopping")
        answer = await http.get("/health/ready")
        assert (answer.status_code, answer.json()) == (
            503, {"ready": False, "reason": "the runtime is not running: stopping"}
        )  # fmt: skip
        assert (await http.get("/health/live")).status_code == 200
        memory.release()
        await asyncio.gather(sending, stopping)
        assert (await http.get("/health/live")).status_code == 503


@quickly
async def test_a_runtime_that_begins_to_stop_while_one_looks_is_not_ready(memory):
    runtime = Runtime(memory, [Ledger])
    await runtime.start()
    ref = await open_ledger(runtime)
    looking, go_on = asyncio.Event(), asyncio.Event()
    queues = memory.queues

    async def slowly() -> Any:
        looking.set()
        await go_on.wait()
        return await queues()

    memory.queues = slowly
    async with of(runtime, keep_s=60.0) as http:
        asking = asyncio.create_task(http.get("/health/ready"))
        await looking.wait()
        memory.hold_writes()
        sending = asyncio.create_task(runtime.send(ref, Added("x", 1)))
        await until(lambda: runtime.vitals().writing_s > 0)
        stopping = asyncio.create_task(runtime.stop())
        await until(lambda: runtime.phase == "stopping")
        go_on.set()
        assert (await asking).status_code == 503
        memory.release()
        await asyncio.gather(sending, stopping)


@quickly
async def test_a_store_that_is_known_to_fail_is_not_hidden_by_what_was_seen_before(memory):
    async with Runtime(memory, [Ledger], Settings(retry_pause_s=0.001)) as runtime:
        ref = await open_ledger(runtime)
        async with of(runtime, keep_s=60.0) as http:
            assert await codes(http) == (200, 200, 200)
            memory.fail_writes(FOR_EVER)
            with pytest.raises(StoreUnavailable):
                await runtime.send(ref, Added("x", 1))
            assert await codes(http) == (200, 503, 503)
        memory.heal()


@quickly
async def test_a_runtime_that_starts_is_not_ready_yet(memory):
    runtime = Runtime(memory, [Ledger])
    async with runtime:
        await open_ledger(runtime)
    memory.hold_loads()
    opening = memory.inner.open
    at_the_gate, go_on = asyncio.Event(), asyncio.Event()

    async def slowly() -> int:
        at_the_gate.set()
        await go_on.wait()
        epoch: int = await opening()
        return epoch

    memory.inner.open = slowly
    starting = asyncio.create_task(runtime.start())
    await at_the_gate.wait()
    async with of(runtime) as http:
        assert await codes(http) == (200, 503, 200)
        go_on.set()
        await starting
        assert await codes(http) == (200, 200, 200)
    await runtime.stop()


@quickly
async def test_an_escalated_runtime_is_neither_alive_nor_ready(memory):
    runtime = Runtime(memory, [Grave])
    await runtime.start()
    async with of(runtime) as http:
        await runtime.publish(Failed("g-1"))
        with pytest.raises(Escalated):
            await runtime.stopped()
        assert await codes(http) == (503, 503, 503)
        assert "no ledger" in (await http.get("/health/ready")).json()["reason"]
    await runtime.stop()


@quickly
async def test_an_outage_of_the_store_makes_it_unready_until_it_is_over(memory):
    async with Runtime(memory, [Ledger], Settings(retry_pause_s=0.001)) as runtime:
        ref = await open_ledger(runtime)
        async with of(runtime) as http:
            memory.fail_reads(FOR_EVER)
            assert await codes(http) == (200, 503, 503)
            memory.heal()
            assert await codes(http) == (200, 200, 200)
            memory.fail_writes(FOR_EVER)
            sending = asyncio.create_task(runtime.send(ref, Added("x", 1)))
            await until(lambda: runtime.vitals().write_error is not None)
            assert await codes(http) == (200, 503, 503)
            memory.heal()
            await asyncio.gather(sending, return_exceptions=True)
            assert await codes(http) == (200, 200, 200)


@quickly
async def test_the_code_of_what_is_critical_can_be_chosen(memory):
    async with Runtime(memory, [Ledger]) as runtime, of(runtime, critical_code=200) as http:
        memory.fail_reads(FOR_EVER)
        answer = await http.get("/health")
        assert (answer.status_code, answer.json()["status"]) == (200, "critical")
        issue = answer.json()["issues"][0]
        assert (issue["kind"], issue["severity"]) == ("store", "critical")


@quickly
async def test_the_store_is_looked_at_once_however_many_ask(memory):
    async with Runtime(memory, [Ledger]) as runtime, of(runtime, keep_s=60.0) as http:
        before = memory.calls["tallies"]
        await asyncio.gather(*(http.get("/health") for _ in range(20)))
        assert memory.calls["tallies"] == before + 1


@quickly
async def test_a_runtime_that_is_made_later_is_found_when_it_is_there(memory):
    found: list[Runtime] = []
    async with of(lambda: found[0] if found else None) as http:
        assert await codes(http) == (200, 503, 503)
        async with Runtime(memory, [Ledger]) as runtime:
            found.append(runtime)
            assert await codes(http) == (200, 200, 200)


@quickly
async def test_what_is_asked_wrongly_is_answered_in_the_terms_of_http(memory):
    async with Runtime(memory, [Ledger]) as runtime, of(runtime) as http:
        for path in ("/health", "/health/live", "/health/ready"):
            got, head = await http.get(path), await http.head(path)
            assert head.status_code == got.status_code == 200
            assert head.content == b""
            assert head.headers["content-length"] == str(len(got.content)) or path == "/health"
            assert got.headers["cache-control"] == head.headers["cache-control"] == "no-store"
            assert got.headers["content-type"] == "application/json"
            posted = await http.post(path)
            assert (posted.status_code, posted.headers["allow"]) == (405, "GET, HEAD")
        for path in ("/", "/healthy", "/health/live/now", "/metrics"):
            assert (await http.get(path)).status_code == 404
        assert (await http.get("/health/")).status_code == 200


@quickly
async def test_the_metrics_are_in_the_format_that_is_asked_for(memory):
    async with Runtime(memory, [Ledger]) as runtime:
        await open_ledger(runtime)
        metrics = Metrics(runtime, CollectorRegistry())
        async with of(runtime, metrics=metrics) as http:
            plain = await http.get("/metrics")
            assert plain.headers["content-type"].startswith("text/plain")
            found = {family.name for family in text_string_to_metric_families(plain.text)}
            assert "perdure_processes_started" in found
            accept = {"accept": "application/openmetrics-text; version=1.0.0"}
            other = await http.get("/metrics", headers=accept)
            assert other.text.endswith("# EOF\n")


@quickly
async def test_they_can_be_mounted_below_another_path(memory):
    async with Runtime(memory, [Ledger]) as runtime:
        app = Starlette(routes=[Mount("/ops", endpoints(runtime, thresholds=LIMITS))])
        async with asking(app) as http:
            assert (await http.get("/ops/health/live")).status_code == 200
            assert (await http.get("/ops/nothing")).status_code == 404
            assert (await http.get("/health/live")).status_code == 404


@quickly
async def test_by_themselves_in_a_server_they_start_and_stop(memory):
    app = endpoints(Runtime(memory, [Ledger]))
    sent: list[str] = []
    coming = iter(["lifespan.startup", "lifespan.shutdown"])

    async def receive() -> dict[str, str]:
        return {"type": next(coming)}

    async def send(event: Any) -> None:
        sent.append(event["type"])

    await app({"type": "lifespan"}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
