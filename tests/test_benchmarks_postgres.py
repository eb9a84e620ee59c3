"""The benchmarks of several processes run, at sizes that say nothing of speed."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from benchmarks import __main__ as command
from benchmarks import cluster, cost
from benchmarks.measure import Bench

from tests.servers.databases import AnyServer, fresh_database


def test_several_processes_are_measured_against_one(
    postgres_server: AnyServer, tmp_path: Path
) -> None:
    with fresh_database(postgres_server) as url:
        sizes = cluster.Sizes(instances=8, turns=2, turns_busy=2, spin_us=100)
        result = cluster.run(Bench(tmp_path, 1, server=url), 2, sizes)
    assert len(result.figures) == 8
    values = [figure.value for figure in result.figures] + [r.value for r in result.ratios]
    assert all(math.isfinite(value) and value > 0 for value in values)


def test_each_process_is_started_by_the_command_that_holds_it(
    postgres_server: AnyServer, tmp_path: Path
) -> None:
    held = ("sh", "-c", f'echo held >>{tmp_path / "held"}; exec "$@"', "held")
    with fresh_database(postgres_server) as url:
        sizes = cluster.Sizes(instances=8, turns=2, spin_us=0, within=held)
        result = cluster.run(Bench(tmp_path, 1, server=url), 2, sizes)
    assert len(result.figures) == 4  # none that compute
    assert (tmp_path / "held").read_text().split() == ["held"] * 3


def test_a_takeover_is_timed(postgres_server: AnyServer, tmp_path: Path) -> None:
    with fresh_database(postgres_server) as url:
        result = cluster.run_takeover(Bench(tmp_path, 1, server=url), cluster.TakeoverSizes(asks=5))
    assert [ratio.target for ratio in result.ratios] == [1.0, 1.0]
    assert all(math.isfinite(figure.value) for figure in result.figures)


def test_what_a_turn_costs_the_server_is_counted(
    postgres_server: AnyServer, tmp_path: Path
) -> None:
    with fresh_database(postgres_server) as url:
        sizes = cost.Sizes(turns=200, in_flight=(10,))
        result = cost.run(Bench(tmp_path, 1, server=url), sizes)
    found = {figure.name.partition(": ")[2]: figure.value for figure in result.figures}
    assert found["log"] > 200  # a turn's own row, at the least
    assert found["stored"] > 0
    assert found["turns a commit"] > 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["takeover"], "needs --store"),
        (["throughput", "--processes", "2"], "needs --store"),
        (["throughput", "--store", "postgresql://x/y", "--within", "nice"], "--within goes with"),
        (["hot", "--store", "postgresql://x/y"], "--store goes with"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        command.main(options)
    assert said in capsys.readouterr().err
