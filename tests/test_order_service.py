"""The example service, as its callers and its operators meet it: a process, over real HTTP."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Event
from typing import Any

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as plain_metrics

SERVICE = Path(__file__).parent.parent / "examples" / "order_service.py"
SOON_S = 20.0

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs signals")


class Service:
    """A running service, and a client of it."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path, http: httpx.Client) -> None:
        self.process = process
        self.log = log
        self.http = http

    def place(self, key: str, item: str = "lamp", amount: int = 40, customer: str = "ada") -> Any:
        order = {"customer": customer, "item": item, "amount": amount}
        return self.http.post("/orders", json=order, headers={"Idempotency-Key": key})

    def pay(self, order_id: str, key: str) -> httpx.Response:
        return self.http.post(f"/orders/{order_id}/payment", headers={"Idempotency-Key": key})

    def stage(self, order_id: str) -> str:
        stage: str = self.http.get(f"/orders/{order_id}").json()["stage"]
        return stage

    def kinds(self, severity: str) -> set[str]:
        """What is wrong, by kind."""
        issues = self.http.get("/health").json()["issues"]
        return {issue["kind"] for issue in issues if issue["severity"] == severity}

    def end(self, signum: int) -> int:
        self.process.send_signal(signum)
        return self.process.wait(SOON_S)


def wait_until(condition: Callable[[], Any]) -> None:
    """What another process does can only be asked for again and again."""
    until_s = time.monotonic() + SOON_S
    while not condition():
        assert time.monotonic() < until_s
        time.sleep(0.02)


@contextmanager
def serving(store: Path, url: str = "") -> Iterator[Service]:
    """A service over a file; or over the ``url``, with its log beside where the file would be."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    log = store.with_suffix(".log")
    with log.open("wb") as written:
        process = subprocess.Popen(
            [sys.executable, str(SERVICE), "--port", str(port)],
            env={**os.environ, "PERDURE_STORE": url or f"sqlite+aiosqlite:///{store}"},
            stderr=written,
        )
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=SOON_S) as http:
        try:
            wait_until(lambda: is_ready(process, log, http))
            yield Service(process, log, http)
        finally:
            process.kill()
            process.wait()


def is_ready(process: subprocess.Popen[bytes], log: Path, http: httpx.Client) -> bool:
    assert process.poll() is None, log.read_text()
    try:
        return http.get("/health/ready").status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module")
def orders_db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("service") / "orders.db"


@pytest.fixture(scope="module")
def service(orders_db: Path) -> Iterator[Service]:
    with serving(orders_db) as running:
        yield running


def test_an_order_is_placed_paid_and_shipped(service: Service) -> None:
    placed = service.place("cart-1", customer="grace")
    assert placed.status_code == 201
    order = placed.json()
    assert (order["status"], order["stage"], order["amount"]) == ("running", "placed", 40)
    assert service.pay(order["id"], "p-1").status_code == 200
    wait_until(lambda: service.stage(order["id"]) == "shipped")
    shown = service.http.get(f"/orders/{order['id']}").json()
    assert shown["status"] == "completed"
    assert shown["tracking"]
    turns = service.http.get(f"/orders/{order['id']}/history").json()
    assert [turn["type"] for turn in turns] == [
        "OrderPlaced", "PaymentReceived", "ItemBooked", "ItemShipped"
    ]  # fmt: skip


def test_a_request_that_comes_twice_is_carried_out_once(service: Service) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: service.place("cart-2"), range(8)))
    assert sorted(answer.status_code for answer in answers) == [200] * 7 + [201]
    assert len({answer.json()["id"] for answer in answers}) == 1
    order_id = answers[0].json()["id"]
    for _ in range(3):
        assert service.pay(order_id, "p-2").status_code == 200
    wait_until(lambda: service.stage(order_id) == "shipped")
    turns = service.http.get(f"/orders/{order_id}/history").json()
    assert [turn["type"] for turn in turns].count("PaymentReceived") == 1
    assert service.place("cart-2", item="mirror").status_code == 422


def test_what_does_not_fit_is_refused_in_words(service: Service) -> None:
    order_id = service.place("cart-3").json()["id"]
    assert service.http.delete(f"/orders/{order_id}").json()["stage"] == "cancelled"
    late = service.pay(order_id, "p-3")
    assert (late.status_code, late.json()["title"]) == (409, "InstanceFinished")
    assert late.headers["content-type"] == "application/problem+json"
    nobody = service.pay("no such order", "p-3")
    assert (nobody.status_code, nobody.json()["title"]) == (404, "InstanceNotFound")
    assert service.http.get("/orders/nobody").status_code == 404
    assert service.http.get("/orders/nobody/history").status_code == 404
    assert service.place("cart-4", amount=-1).status_code == 422
    assert service.http.post("/orders", json={}).status_code == 422
    assert service.http.put("/orders").status_code == 405


def test_orders_are_found_by_customer_and_status(service: Service) -> None:
    ids = {service.place(f"cart-f{n}", customer="joan").json()["id"] for n in range(3)}
    gone = ids.pop()
    service.http.delete(f"/orders/{gone}")

    def found(**query: Any) -> set[str]:
        page = service.http.get("/orders", params=query).json()
        return {order["id"] for order in page["orders"]}

    assert found(customer="joan", status="running") == ids
    assert found(customer="joan", status="failed") == {gone}
    first = service.http.get("/orders", params={"customer": "joan", "limit": 2}).json()
    rest = found(customer="joan", limit=2, after=first["after"])
    assert {order["id"] for order in first["orders"]} | rest == {*ids, gone}
    assert service.http.get("/orders", params={"after": "nonsense"}).status_code == 422
    assert found(customer="nobody") == set()


def test_an_order_that_cannot_be_read_hides_no_other(tmp_path: Path) -> None:
    store = tmp_path / "orders.db"
    with serving(store) as service:
        broken, sound = (service.place(f"cart-b{n}").json()["id"] for n in range(2))
        assert service.end(signal.SIGTERM) == 0
    with closing(sqlite3.connect(store)) as file:
        file.execute("UPDATE journal SET body = x'00' WHERE instance = ?", [f"Order/{broken}"])
        file.commit()
    with serving(store) as service:
        page = service.http.get("/orders").json()
        stages = {order["id"]: order["stage"] for order in page["orders"]}
        assert stages == {broken: "unreadable", sound: "placed"}
        assert service.http.get(f"/orders/{broken}").status_code == 503


def test_the_metrics_are_what_prometheus_reads(service: Service) -> None:
    order_id = service.place("cart-m").json()["id"]
    service.pay(order_id, "p-m")
    wait_until(lambda: service.stage(order_id) == "shipped")
    answer = service.http.get("/metrics")
    started = {
        sample.labels["process_type"]: sample.value
        for family in plain_metrics(answer.text)
        for sample in family.samples
        if sample.name == "perdure_processes_started_total"
    }
    assert started["Order"] >= 1
    accept = {"accept": "application/openmetrics-text; version=1.0.0"}
    other = service.http.get("/metrics", headers=accept)
    assert other.headers["content-type"].startswith("application/openmetrics-text")
    assert {family.name for family in open_metrics(other.text)} > {"perdure_processes_started"}
    if (promtool := shutil.which("promtool")) is not None:
        checked = subprocess.run(
            [promtool, "check", "metrics"],
            input=answer.text,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_an_order_that_is_stuck_is_worth_a_warning(service: Service) -> None:
    assert "stuck" not in service.kinds("warning")
    order_id = service.place("cart-s", item="piano", amount=5000).json()["id"]
    service.pay(order_id, "p-s")
    wait_until(lambda: service.http.get(f"/orders/{order_id}").json()["status"] == "stuck")
    wait_until(lambda: {"stuck", "dead_letters"} <= service.kinds("warning"))
    answer = service.http.get("/health")
    assert answer.status_code == 200
    assert "1 process of Order appears stuck" in answer.text
    assert service.http.get("/health/ready").status_code == 200


def test_a_store_that_cannot_be_written_is_critical_until_it_can(
    service: Service, orders_db: Path
) -> None:
    with (
        closing(sqlite3.connect(orders_db, isolation_level=None)) as intruder,
        ThreadPoolExecutor(1) as pool,
    ):
        intruder.execute("BEGIN IMMEDIATE")
        placing = pool.submit(service.place, "cart-o")
        wait_until(lambda: "store" in service.kinds("critical"))
        assert service.http.get("/health").status_code == 503
        wait_until(lambda: service.http.get("/health/ready").status_code == 503)
        assert service.http.get("/health/live").status_code == 200
        intruder.execute("ROLLBACK")
        assert placing.result().status_code in (201, 503)
    wait_until(lambda: service.http.get("/health/ready").status_code == 200)
    assert service.place("cart-o").status_code in (200, 201)
    assert service.kinds("critical") == set()


# Ends


def flood(service: Service, keys: Iterator[str], enough: Event) -> list[str]:
    """Place orders until nobody answers; those that were acknowledged."""
    acknowledged: list[str] = []
    for key in keys:
        try:
            answer = service.place(key)
        except httpx.TransportError:
            return acknowledged
        if answer.status_code == 201:
            acknowledged.append(answer.json()["id"])
            if len(acknowledged) == 20:
                enough.set()
    return acknowledged


def keys(prefix: str) -> Iterator[str]:
    return (f"{prefix}-{n}" for n in range(1_000_000))


def end_under_load(service: Service, name: str, signum: int) -> tuple[int, set[str]]:
    """The exit code, and the orders that were acknowledged before it."""
    enough = Event()
    with ThreadPoolExecutor(4) as pool:
        floods = [pool.submit(flood, service, keys(f"{name}-{n}"), enough) for n in range(4)]
        assert enough.wait(SOON_S)
        code = service.end(signum)
        return code, {order for flooding in floods for order in flooding.result()}


def all_there(service: Service, acknowledged: set[str]) -> bool:
    found: set[str] = set()
    query: dict[str, Any] = {"limit": 1000}
    while True:
        page = service.http.get("/orders", params=query).json()
        found |= {order["id"] for order in page["orders"]}
        if page["after"] is None:
            return acknowledged <= found
        query["after"] = page["after"]


def test_what_was_acknowledged_survives_a_sigterm_and_a_kill_under_load(tmp_path: Path) -> None:
    store = tmp_path / "orders.db"
    with serving(store) as first:
        code, acknowledged = end_under_load(first, "a", signal.SIGTERM)
        assert (code, first.log.read_text()) == (0, "")
    assert not store.with_name("orders.db-wal").exists()  # given up in order
    with serving(store) as second:
        assert all_there(second, acknowledged)
        code, more = end_under_load(second, "b", signal.SIGKILL)
        assert code == -signal.SIGKILL
    with serving(store) as third:
        assert all_there(third, acknowledged | more)
        assert third.place("a-0-0").json()["id"] in acknowledged


def refused(
    url: str, program: str = f"runpy.run_path({str(SERVICE)!r}, run_name='__main__')"
) -> str:
    """What a service says that does not start."""
    done = subprocess.run(
        [sys.executable, "-c", f"import runpy, sys; sys.argv[1:] = ['--port', '0']; {program}"],
        env={**os.environ, "PERDURE_STORE": url},
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=SOON_S,
    )
    assert done.returncode
    assert "Traceback" not in done.stderr
    return done.stderr


def test_a_forgotten_migration_is_told_in_words(empty_postgres: str) -> None:
    assert "run `perdure db upgrade`" in refused(empty_postgres)


def test_a_store_that_is_none_is_told_in_words() -> None:
    assert refused("orders.db").startswith("PERDURE_STORE: 'orders.db' names no store")


@pytest.mark.parametrize("package", ["uvicorn", "fastapi", "prometheus_client"])
def test_what_is_not_installed_is_told_in_words(package: str) -> None:
    gone = f"sys.modules[{package!r}] = None; runpy.run_path({str(SERVICE)!r})"
    assert "pip install 'perdure[service,prometheus]' fastapi uvicorn" in refused("", gone)
