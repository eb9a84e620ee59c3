"""The benchmarks run, at sizes that say nothing of speed; no ratio is judged here."""

import asyncio
import gc
import io
import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from benchmarks import __main__ as command
from benchmarks import (
    deadlines,
    find,
    grown,
    history,
    hot,
    latency,
    observed,
    ordered,
    purging,
    rehydrate,
    residents,
    throughput,
    work,
)
from benchmarks.counting import CountingStore
from benchmarks.limit import one_row_commits
from benchmarks.load import OtherWork, runtime_over
from benchmarks.measure import Bench, Rounds, percentile, run_rounds
from benchmarks.result import Figure, Ratio, Result, print_json, print_text

from perdure import MemoryStore
from perdure.store.protocol import LoadedInstance

RUNS: dict[str, Callable[[Bench], Result]] = {
    "throughput": lambda bench: throughput.run(
        bench, throughput.Sizes(instances=5, turns=3, turns_busy=2, limit_rows=1_000)
    ),
    "hot": lambda bench: hot.run(bench, hot.Sizes(in_flight=5, instances=4, turns=20)),
    "latency": lambda bench: latency.run(
        bench, latency.Sizes(in_flight=(3,), warm_up=2, messages=10, messages_per_flight=2)
    ),
    "rehydrate": lambda bench: rehydrate.run(bench, rehydrate.Sizes(instances=6)),
    "residents": lambda bench: residents.run(
        bench, residents.Sizes(few=5, many=20, turns=20, traced=20, active=5)
    ),
    "deadlines": lambda bench: deadlines.run(bench, deadlines.Sizes(deadlines=20, idle_s=0.1)),
    "history": lambda bench: history.run(bench, history.Sizes(old=40, young=5, block=10, blocks=2)),
    "work": lambda bench: work.run(
        bench, work.Sizes(orders=10, probes=5, retries=10, idle_s=0.1, turns=2)
    ),
    "sagas": lambda bench: ordered.run(
        bench, ordered.Sizes(instances=8, orders=8, asleep=10, idle_s=0.1)
    ),
    "observed": lambda bench: observed.run(
        bench, observed.Sizes(instances=5, turns=3, orders=5, orders_before=2)
    ),
    "find": lambda bench: find.run(
        bench, find.Sizes(instances=300, asked=2, writers=5, turns=3, plans=True)
    ),
    "grown": lambda bench: grown.run(
        bench, grown.Sizes(instances=20, working_set=10, empty_instances=5, turns=20)
    ),
    "purging": lambda bench: purging.run(
        bench, purging.Sizes(ended=20, in_flight=(2,), warm_up=2, messages=10, lives=5)
    ),
}


@pytest.fixture(autouse=True)
def nothing_is_collected(monkeypatch: pytest.MonkeyPatch) -> None:
    """A collection walks over all that the other tests have left, and what it finds is not said."""
    for name in ("collect", "freeze", "unfreeze"):
        monkeypatch.setattr(gc, name, lambda: 0)


def test_every_benchmark_has_a_test() -> None:
    assert set(RUNS) == set(command.BENCHMARKS)


@pytest.mark.parametrize("name", RUNS)
def test_benchmark_finds_finite_values_and_leaves_no_file(name: str, tmp_path: Path) -> None:
    steps: list[str] = []
    result = RUNS[name](Bench(tmp_path, 1, steps.append))
    assert result.name == name
    assert result.figures
    assert result.ratios
    assert steps
    values = [figure.value for figure in result.figures] + [r.value for r in result.ratios]
    assert all(map(math.isfinite, values))
    assert list(tmp_path.iterdir()) == []


def test_snapshot_variant_has_a_snapshot_with_twenty_turns_behind_it(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    asyncio.run(rehydrate._fill(path, rehydrate.Sizes(instances=2), rehydrate.TAIL + 1))
    [loaded] = asyncio.run(_load(path))
    assert loaded.snapshot is not None
    assert loaded.snapshot.sequence_nr == rehydrate.TAIL + 1
    assert len(loaded.turns) == rehydrate.TAIL


async def _load(path: Path) -> Sequence[LoadedInstance]:
    async with runtime_over(path) as runtime:
        return await runtime.store.load(["bench.Order/o-000000"])


def test_plain_commit_is_timed(tmp_path: Path) -> None:
    with one_row_commits(Bench(tmp_path), 1) as commit:
        assert commit() > 0


def test_other_work_takes_its_share() -> None:
    async def main() -> float:
        other = OtherWork(0.5)
        until = time.perf_counter() + 0.3
        while time.perf_counter() < until:  # noqa: ASYNC110  # The other side of the loop.
            await asyncio.sleep(0)
        other.stop()
        return other.achieved

    assert 0.3 < asyncio.run(main()) < 0.7


def test_counting_store_counts_each_operation() -> None:
    async def main() -> int:
        store = CountingStore(MemoryStore())
        await store.open()
        store.calls = 0
        await store.load(["a/b"])
        await store.write([])
        await store.heads()
        await store.deadlines()
        await store.inbox()
        await store.outbox()
        await store.dead_letters()
        await store.journal("a/b")
        calls = store.calls
        await store.close()
        return calls

    assert asyncio.run(main()) == 8


def test_rounds_are_interleaved_and_ratios_are_of_each_round(tmp_path: Path) -> None:
    order: list[str] = []
    values = iter([10.0, 1.0, 20.0, 4.0, 30.0, 9.0])

    def measure(name: str) -> dict[str, float]:
        order.append(name)
        return {name: next(values)}

    rounds = run_rounds(
        Bench(tmp_path), [("limit", lambda: measure("limit")), ("ours", lambda: measure("ours"))]
    )
    assert order == ["limit", "ours"] * 3
    assert rounds.median("limit") == 20.0
    assert rounds.ratio("r", "ours", "limit").value == 0.2
    assert rounds.figure("ours", "x").rounds == (1.0, 4.0, 9.0)
    assert Rounds().disturbance() == []


@pytest.mark.parametrize(
    ("ratio", "passed"),
    [
        (Ratio("r", 0.5), None),
        (Ratio("r", 0.5, 0.4), True),
        (Ratio("r", 0.3, 0.4), False),
        (Ratio("r", 1.1, 1.2, at_least=False), True),
        (Ratio("r", 1.3, 1.2, at_least=False), False),
        (Ratio("r", 0.9, 7.0, at_least=False, floor=1.0), False),
    ],
)
def test_ratio_passes(ratio: Ratio, passed: bool | None) -> None:
    assert ratio.passed is passed


def test_printers() -> None:
    result = Result(
        "some",
        [Figure("rate", 12_345.6, "turns/s", (12_000.0, 13_000.0))],
        [Ratio("shown", 0.5), Ratio("met", 0.5, 0.4), Ratio("odd", 0.5, 7.0, False, 1.0)],
        ["a note"],
    )
    out = io.StringIO()
    print_text(result, out)
    for part in ("12,346 turns/s", "(12,000 to 13,000)", ">= 0.4: pass", "IMPLAUSIBLE", "a note"):
        assert part in out.getvalue()
    out = io.StringIO()
    print_json(result, {"cpus": 2}, out)
    found = json.loads(out.getvalue())
    assert found["passed"] is False
    assert [ratio["passed"] for ratio in found["ratios"]] == [None, True, False]
    assert found["settings"] == {"cpus": 2}


def test_command_prints_one_json_object_per_benchmark(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "BENCHMARKS", {"a": _fake, "b": _fake})
    assert command.main(["all", "--json", "--store-dir", str(tmp_path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["name"] for line in lines] == ["fake", "fake"]
    assert json.loads(lines[0])["settings"]["synchronous"] == "FULL"


def _fake(bench: Bench, quick: bool, busy: float) -> Result:
    return Result("fake", [], [Ratio("r", 0.1, 0.4)])


def test_percentile() -> None:
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert percentile([1.0], 0.99) == 1.0
