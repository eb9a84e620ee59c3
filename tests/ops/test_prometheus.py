"""Metrics as Prometheus reads them: right, few, and there while the runtime is."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import threading
import urllib.request
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest, start_http_server
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from perdure import NonRetryable, Runtime, Settings, WorkQueue
from perdure.errors import DefinitionError
from perdure.ops.families import FAMILIES
from perdure.ops.prometheus import Metrics, dashboard
from perdure.ops.spread import Spread
from tests.runtime.errands import Asked, Do, Errand, Undoing, desk, queue_of
from tests.runtime.frail import TRIED, born, hit
from tests.runtime.frail import Quarantined as Frail
from tests.runtime.support import adding, open_ledger, quickly, reopened, until
from tests.runtime.test_stuck import Asked as Why
from tests.runtime.test_stuck import Question
from tests.sagas import Added, Alarm, Armed, Closed, Ledger, Limited, Ship

Read = Mapping[str, float]

HOSTILE = 'x"\n\\ 1e9'


@pytest.fixture(autouse=True)
def _nothing_tried():
    TRIED.clear()


@pytest.fixture
def registry():
    return CollectorRegistry()


async def text_of(registry):
    """What a scrape from another thread gets."""
    return (await asyncio.to_thread(generate_latest, registry)).decode()


async def read(registry) -> Read:
    """The same by name and the values of the labels: "perdure_turns_total Ledger applied"."""
    return figures(await text_of(registry))


def figures(text) -> Read:
    return {
        " ".join([sample.name, *(sample.labels[name] for name in sorted(sample.labels))]): (
            sample.value
        )
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def shipping():
    queue = WorkQueue("shipping")

    @queue.worker
    async def ship(command: Ship) -> None: ...

    return queue


async def lively(store, registry, clock):
    """Something of everything has happened; what a scrape shows then."""

    def deed(command, job):
        if command.number == 1:
            raise NonRetryable("no")
        if job.attempt == 1:
            raise ValueError("not yet")

    sagas = [Ledger, Alarm, Frail, Question, Undoing, Limited]
    members: list[Any] = [*sagas, queue_of(), shipping()]
    settings = Settings(snapshot_every=2, idle_after_s=30)
    resources = {"desk": desk(do=deed)}
    async with Runtime(store, members, settings, resources=resources, clock=clock) as runtime:
        Metrics(runtime, registry)
        ref = await open_ledger(runtime)
        await runtime.send(ref, Added("x", 2))
        await runtime.send(ref, Closed("x"))
        await open_ledger(runtime, HOSTILE)
        await open_ledger(runtime, saga=Limited)
        await runtime.send(runtime.ref(Alarm, "a"), Armed("a", "a", 3600))
        await runtime.publish(Why("why"))
        await runtime.send(runtime.ref(Undoing, "e"), Asked("e", count=2))
        await hit(runtime, await born(runtime, Frail), 1, fails=1)
        await clock.advance(timedelta(hours=2))
        await runtime.send(ref, Closed("x"))
        await runtime.send(runtime.ref(Ledger, "not yet"), Added("not yet", 1))
        await runtime.settled()
        return await text_of(registry)


# As Prometheus reads them


@quickly
async def test_promtool_and_the_parsers_find_nothing_wrong(store, registry, clock):
    text = await lively(store, registry, clock)
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert set(families) == {f"perdure_{name}" for name in FAMILIES}
    kinds = {name: family.type for name, family in families.items()}
    assert kinds == {f"perdure_{one.name}": one.kind for one in FAMILIES.values()}
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool here")
    done = await asyncio.to_thread(checked, promtool, text)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def checked(promtool, text):
    command = [promtool, "check", "metrics"]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False)


@quickly
async def test_the_newer_format_is_read_back_too(memory, registry, clock):
    async with Runtime(memory, [Ledger]) as runtime:
        metrics = Metrics(runtime, registry)
        await open_ledger(runtime)
        await metrics.refresh()
        families = parse_openmetrics(generate_openmetrics(registry).decode())
        assert len(list(families)) == len(FAMILIES)


@quickly
async def test_something_of_everything_is_counted(store, registry, clock):
    found = figures(await lively(store, registry, clock))

    def of(name):
        return {
            key[len(name) + 1 :]: value
            for key, value in found.items()
            if key.split(" ")[0] == name and value
        }

    started = of("perdure_processes_started_total")
    assert started == {
        "Ledger": 2, "Limited": 1, "Alarm": 1, "Question": 1, "Quarantined": 1,
        "runtime-test.undoing": 1,
    }  # fmt: skip
    assert of("perdure_processes_completed_total") == {"Ledger": 1}
    assert of("perdure_processes_failed_total") == {"Limited": 1}
    assert of("perdure_active_processes")["Ledger"] == 1
    assert of("perdure_stuck_processes") == {"Question": 1}
    assert of("perdure_quarantined_processes") == {"Quarantined": 1}
    assert of("perdure_quarantines_total") == {"Quarantined": 1}
    assert of("perdure_turns_total")["applied Ledger"] == 4
    assert of("perdure_turns_total")["finished Ledger"] == 1
    assert of("perdure_process_duration_seconds_count") == {"Ledger": 1}
    assert of("perdure_compensations_total") == {"runtime-test.undoing": 1}
    assert of("perdure_retries_total") == {"runtime-test.undoing job": 1}
    assert of("perdure_dead_letters_total") == {"runtime-test.undoing job": 1}
    assert of("perdure_dead_letters_kept") == {"job": 1}
    assert of("perdure_inbox_messages") == {"": 2}
    ends = of("perdure_job_attempts_total")
    assert ends == {
        "given up work": 1, "retried work": 1, "succeeded work": 4, "succeeded shipping": 2,
    }  # fmt: skip
    assert of("perdure_deadline_lateness_seconds_count") == {"Alarm": 1, "Limited": 1}
    assert of("perdure_rehydrations_total")["Ledger"] == 1
    assert of("perdure_passivations_total")["Ledger"] == 2
    assert of("perdure_state_bytes_count")["Ledger"] == 2
    assert of("perdure_store_up") == {"": 1}
    assert found["perdure_queue_jobs work"] == 0


@quickly
async def test_no_label_holds_an_id_or_anything_else_that_grows(memory, registry, clock):
    text = await lively(memory, registry, clock)
    labels = {
        (name, value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        for name, value in sample.labels.items()
    }
    allowed = {"process_type", "outcome", "queue", "what", "error", "le"}
    assert {name for name, _ in labels} <= allowed
    values = {value for name, value in labels if name != "le"}
    assert not values & {"x", "a", "e", "why", HOSTILE}


# After a restart, and while the store is away


@quickly
async def test_totals_and_what_is_active_come_from_the_store(store, registry):
    async with Runtime(store, [Ledger, Question]) as runtime:
        for id in "abc":
            await open_ledger(runtime, id)
        await runtime.send(runtime.ref(Ledger, "a"), Closed("a"))
        await runtime.publish(Why("why"))
    async with Runtime(reopened(store), [Ledger, Question]) as runtime:
        Metrics(runtime, registry)
        found = await read(registry)
    assert found["perdure_processes_started_total Ledger"] == 3
    assert found["perdure_processes_completed_total Ledger"] == 1
    assert found["perdure_active_processes Ledger"] == 2
    assert found["perdure_stuck_processes Question"] == 1
    assert found["perdure_active_processes Question"] == 1
    assert found["perdure_store_size_bytes"] > 0
    assert found["perdure_turns_total applied Ledger"] == 0


@quickly
async def test_a_store_that_does_not_answer_leaves_the_last_figures(memory, registry):
    async with Runtime(memory, [Ledger]) as runtime:
        Metrics(runtime, registry, refresh_s=0.05)
        await open_ledger(runtime)
        assert (await read(registry))["perdure_store_up"] == 1
        await open_ledger(runtime, "y")
        memory.fail_reads(operation="backlog")
        found = await read(registry)
        assert (found["perdure_store_up"], found["perdure_active_processes Ledger"]) == (0, 1)
        memory.hold_reads()
        found = await read(registry)
        assert (found["perdure_store_up"], found["perdure_active_processes Ledger"]) == (0, 1)
        memory.release()
        found = await read(registry)
        assert (found["perdure_store_up"], found["perdure_active_processes Ledger"]) == (1, 2)


@quickly
async def test_a_loop_that_stands_still_does_not_hold_up_a_scrape_for_ever(memory, registry):
    async with Runtime(memory, [Ledger]) as runtime:
        Metrics(runtime, registry, refresh_s=0.05)
        scraped = threading.Thread(target=generate_latest, args=[registry])
        scraped.start()
        scraped.join(5)  # on the loop
        assert not scraped.is_alive()


@quickly
async def test_nothing_is_read_while_nobody_scrapes(memory, registry):
    async with Runtime(memory, [Ledger]) as runtime:
        metrics = Metrics(runtime, registry)
        await open_ledger(runtime)
        memory.calls.clear()
        await open_ledger(runtime, "y")
        assert memory.calls["tallies"] == memory.calls["backlog"] == memory.calls["size"] == 0
        await asyncio.gather(metrics.refresh(), metrics.refresh())
        assert memory.calls["tallies"] == memory.calls["backlog"] == memory.calls["size"] == 1
        generate_latest(registry)  # on the loop: as it was read last
        assert memory.calls["tallies"] == 1


@quickly
async def test_what_waits_shows_while_it_does(memory, registry):
    held = asyncio.Event()
    where = desk(do=lambda command, job: held.wait())
    members: list[Any] = [Ledger, Errand, queue_of(concurrency=1), shipping()]
    async with Runtime(memory, members, resources={"desk": where}) as runtime:
        Metrics(runtime, registry)
        await runtime.enqueue(Do("a"))
        await runtime.enqueue(Do("b"))
        await until(lambda: len(where.jobs) == 1)
        ref = await open_ledger(runtime)
        await runtime.queue("work").pause()
        memory.hold_writes()
        tasks = adding(runtime, ref, 1, 2, 3)
        found = await read(registry)
        memory.release()
        await asyncio.gather(*tasks)
        held.set()
    assert found["perdure_mailbox_messages"] == 3
    assert found["perdure_queue_jobs work"] == 2
    assert found["perdure_queue_running_jobs work"] == 1
    assert found["perdure_queue_paused work"] == 1
    assert found["perdure_queue_oldest_job_seconds work"] > 0
    assert found["perdure_resident_processes"] == 1


@quickly
async def test_scraped_over_http_from_other_threads_while_turns_are_taken(store, registry):
    async with Runtime(store, [Ledger], Settings(residents_max=3)) as runtime:
        Metrics(runtime, registry)
        server, thread = start_http_server(0, "127.0.0.1", registry)
        try:
            url = f"http://127.0.0.1:{server.server_port}/metrics"
            scrapes = [asyncio.to_thread(fetch, url) for _ in range(8)]
            opened = [open_ledger(runtime, f"o-{n}") for n in range(100)]
            texts = (await asyncio.gather(*scrapes, *opened))[: len(scrapes)]
            last = figures(await asyncio.to_thread(fetch, url))
        finally:
            await asyncio.to_thread(server.shutdown)
            server.server_close()
            thread.join()
    assert all(figures(text)["perdure_store_up"] == 1 for text in texts)
    assert last["perdure_turns_total applied Ledger"] == 100
    assert last["perdure_active_processes Ledger"] == 100


def fetch(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode()


# Registries


@quickly
async def test_two_runtimes_in_one_registry_are_told_apart_by_a_label(registry):
    shop, bank = (Runtime("memory://", [Ledger]) for _ in range(2))
    async with shop, bank:
        Metrics(shop, registry, labels={"runtime": "shop"})
        with pytest.raises(DefinitionError, match="labels="):
            Metrics(bank, registry)
        with pytest.raises(DefinitionError, match="labels="):
            Metrics(bank, registry, labels={"runtime": "shop"})
        Metrics(bank, registry, labels={"runtime": "bank"})
        await open_ledger(bank)
        found = await read(registry)
        assert found["perdure_processes_started_total Ledger bank"] == 1
        assert found["perdure_processes_started_total Ledger shop"] == 0
        assert (await text_of(registry)).count("# TYPE perdure_turns_total counter") == 1
    assert await text_of(registry) == ""


@quickly
async def test_labels_are_told_by_name_in_whichever_order_they_are_given(registry):
    shop, bank = (Runtime("memory://", [Ledger]) for _ in range(2))
    async with shop, bank:
        Metrics(shop, registry, labels={"runtime": "shop", "country": "CH"})
        Metrics(bank, registry, labels={"country": "AT", "runtime": "bank"})
        found = await read(registry)
    assert found["perdure_store_up CH shop"] == found["perdure_store_up AT bank"] == 1


@quickly
async def test_a_scrape_on_the_loop_has_the_figures_of_all_runtimes_there(registry):
    shop, bank = (Runtime("memory://", [Ledger]) for _ in range(2))
    async with shop, bank:
        metrics = Metrics(shop, registry, labels={"runtime": "shop"})
        Metrics(bank, registry, labels={"runtime": "bank"})
        Metrics(bank, registry, "eventcore")
        await open_ledger(bank)
        await metrics.refresh()
        found = figures(generate_latest(registry).decode())
    assert found["perdure_store_up bank"] == found["eventcore_store_up"] == 1
    assert found["perdure_processes_started_total Ledger bank"] == 1


@quickly
async def test_registered_until_the_stop_and_again_at_the_next_start(memory, registry):
    runtime = Runtime(memory, [Ledger])
    metrics = Metrics(runtime, registry)
    with pytest.raises(DefinitionError, match="once"):
        Metrics(runtime, registry)
    assert (await read(registry))["perdure_store_up"] == 0
    for _ in range(2):
        async with runtime:
            await open_ledger(runtime)
            found = await read(registry)
            assert found["perdure_processes_started_total Ledger"] == 1
        assert await text_of(registry) == ""
    assert found["perdure_turns_total applied Ledger"] == 2
    async with runtime:
        metrics.close()
        assert await text_of(registry) == ""
        Metrics(runtime, registry)


@quickly
async def test_another_prefix_is_another_set_of_names(memory, registry):
    async with Runtime(memory, [Ledger]) as runtime:
        Metrics(runtime, registry)
        Metrics(runtime, registry, "eventcore")
        await open_ledger(runtime)
        found = await read(registry)
        assert found["eventcore_processes_started_total Ledger"] == 1
        assert found["perdure_processes_started_total Ledger"] == 1


@pytest.mark.parametrize("prefix", ["", "a b", "1a", None, "a-b"])
def test_a_prefix_that_is_no_name_is_refused(registry, prefix):
    with pytest.raises(DefinitionError, match="prefix"):
        Metrics(Runtime("memory://", [Ledger]), registry, prefix)


@pytest.mark.parametrize(
    "labels", [{"process_type": "x"}, {"le": "1"}, {"a b": "x"}, {"__x": "x"}, {"x": 1}]
)
def test_a_label_that_cannot_be_one_is_refused(registry, labels):
    with pytest.raises(DefinitionError, match="label"):
        Metrics(Runtime("memory://", [Ledger]), registry, labels=labels)


@quickly
async def test_processes_that_run_elsewhere_can_be_counted_in(memory, registry):
    async with Runtime(memory, [Ledger]) as runtime:
        metrics = Metrics(runtime, registry)
        await open_ledger(runtime)
        for kind in ("Ledger", "Legacy"):
            metrics.record_process_started(kind)
        metrics.record_process_completed("Legacy", timedelta(seconds=7))
        metrics.record_process_failed("Legacy", timedelta(seconds=7))
        found = await read(registry)
    assert found["perdure_processes_started_total Ledger"] == 2
    assert found["perdure_processes_started_total Legacy"] == 1
    assert found["perdure_processes_failed_total Legacy"] == 1
    assert found["perdure_process_duration_seconds_sum Legacy"] == 7


def test_a_histogram_counts_a_value_at_its_bound_and_beyond_the_last():
    spread = Spread((1.0, 10.0))
    for value in (0.0, 1.0, 1.1, 10.0, 11.0):
        spread.add(value)
    assert spread.buckets() == [("1.0", 2), ("10.0", 4), ("+Inf", 5)]
    assert spread.sum == pytest.approx(23.1)


# The dashboard


def queries():
    made = dashboard()
    for panel in made["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]
    for variable in made["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["name"], variable["query"]


@quickly
async def test_every_query_of_the_dashboard_names_what_is_exported(memory, registry, clock):
    """Names, with the suffixes of histograms and counters, and the labels they are used with."""
    text = await lively(memory, registry, clock)
    labels: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        declared = FAMILIES[family.name.removeprefix("perdure_")]
        for series in declared.series:
            labels[f"perdure_{series}"] = {*declared.labels}
        for sample in family.samples:
            assert set(sample.labels) - {"le"} <= labels[sample.name]
            labels[sample.name] |= set(sample.labels)
    asked = set()
    for title, query in queries():
        named = re.findall(r"\bperdure_\w+", query)
        assert named, title
        for name in named:
            asked.add(name)
            assert name in labels, f"{title}: {name}"
        wanted = set(re.findall(r"(\w+)=~?\"", query)) | {
            label.strip()
            for group in re.findall(r"by \(([^)]*)\)", query)
            for label in group.split(",")
        }
        wanted |= set(re.findall(r"label_values\(\w+, (\w+)\)", query))
        for name in named:
            known = labels[name] | ({"le"} if name.endswith("_bucket") else set())
            assert wanted <= known, f"{title}: {name} has no {wanted - known}"
    families = {
        name for name in FAMILIES if any(re.search(rf"_{name}\b|_{name}_", q) for q in asked)
    }
    assert families == set(FAMILIES), "some metric is on no panel"


def test_the_dashboard_has_its_sections_and_takes_another_prefix():
    made = dashboard("eventcore")
    rows = [panel["title"] for panel in made["panels"] if panel["type"] == "row"]
    assert rows == ["Is it well?", "Work", "Waiting", "Failures", "Store"]
    ids = [panel["id"] for panel in made["panels"]]
    assert len(ids) == len(set(ids))
    text = str(made["panels"])
    assert "eventcore_turns_total" in text
    assert "perdure_" not in text
