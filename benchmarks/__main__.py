"""``python -m benchmarks NAME|all [--json] [--store-dir DIR] [--quick] [--rounds N] [--busy S]``.

Exits with 1 if a ratio misses its target. Next to read: ``README.md``.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

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
from benchmarks.measure import Bench
from benchmarks.result import Result, print_json, print_text
from benchmarks.settings import settings_of

__all__ = ["main"]


def _takeover(bench: Bench, quick: bool, _: float) -> Result:
    from benchmarks import cluster  # needs asyncpg

    return cluster.run_takeover(bench, cluster.QUICK_TAKEOVER if quick else cluster.TakeoverSizes())


def _across(bench: Bench, quick: bool, _: float) -> Result:
    from benchmarks import across

    return across.run(bench, across.QUICK if quick else across.Sizes())


def _cost(bench: Bench, quick: bool, _: float) -> Result:
    from benchmarks import cost

    return cost.run(bench, cost.QUICK if quick else cost.Sizes())


def _processes(bench: Bench, options: argparse.Namespace) -> Result:
    from benchmarks import cluster

    sizes = cluster.QUICK if options.quick else cluster.Sizes()
    sizes = replace(sizes, within=tuple(shlex.split(options.within)))
    return cluster.run(
        bench, options.processes, sizes if options.busy else replace(sizes, spin_us=0.0)
    )


def _throughput(bench: Bench, quick: bool, busy: float) -> Result:
    sizes = throughput.QUICK if quick else throughput.Sizes()
    return throughput.run(bench, replace(sizes, busy=busy))


BENCHMARKS: dict[str, Callable[[Bench, bool, float], Result]] = {
    "throughput": _throughput,
    "hot": lambda bench, quick, _: hot.run(bench, hot.QUICK if quick else hot.Sizes()),
    "latency": lambda bench, quick, _: latency.run(
        bench, latency.QUICK if quick else latency.Sizes()
    ),
    "rehydrate": lambda bench, quick, _: rehydrate.run(
        bench, rehydrate.QUICK if quick else rehydrate.Sizes()
    ),
    "residents": lambda bench, quick, _: residents.run(
        bench, residents.QUICK if quick else residents.Sizes()
    ),
    "deadlines": lambda bench, quick, _: deadlines.run(
        bench, deadlines.QUICK if quick else deadlines.Sizes()
    ),
    "history": lambda bench, quick, _: history.run(
        bench, history.QUICK if quick else history.Sizes()
    ),
    "work": lambda bench, quick, _: work.run(bench, work.QUICK if quick else work.Sizes()),
    "sagas": lambda bench, quick, _: ordered.run(
        bench, ordered.QUICK if quick else ordered.Sizes()
    ),
    "observed": lambda bench, quick, _: observed.run(
        bench, observed.QUICK if quick else observed.Sizes()
    ),
    "find": lambda bench, quick, _: find.run(bench, find.QUICK if quick else find.Sizes()),
    "grown": lambda bench, quick, _: grown.run(bench, grown.QUICK if quick else grown.Sizes()),
    "purging": lambda bench, quick, _: purging.run(
        bench, purging.QUICK if quick else purging.Sizes()
    ),
}

ON_POSTGRES: dict[str, Callable[[Bench, bool, float], Result]] = {
    "across": _across,
    "cost": _cost,
    "takeover": _takeover,
}
"""They need a server, so that "all" leaves them out."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; 0 if every target was met."""
    options = _parser().parse_args(arguments)
    chosen = list(BENCHMARKS) if options.name == "all" else [options.name]
    _check(options)
    passed = True
    with tempfile.TemporaryDirectory(prefix="perdure-bench-", dir=options.store_dir) as directory:
        settings = settings_of(Path(directory), options.rounds, options.quick, options.store)
        if not options.json:
            print("  ".join(f"{name}={value}" for name, value in settings.items()), flush=True)
        for name in chosen:
            with _progress(name) as tell:
                bench = Bench(Path(directory), options.rounds, tell, options.store)
                if name == "find":
                    result = find.run(bench, _sizes_of_find(options))
                elif options.processes is not None:
                    result = _processes(bench, options)
                else:
                    made = ON_POSTGRES.get(name) or BENCHMARKS[name]
                    result = made(bench, options.quick, options.busy)
            if options.json:
                print_json(result, settings, sys.stdout)
            else:
                print_text(result, sys.stdout)
            passed = passed and result.passed
    return 0 if passed else 1


def _check(options: argparse.Namespace) -> None:
    """End with what is wrong, if the options do not go together."""
    if options.store is not None and options.name not in ("throughput", *ON_POSTGRES):
        _parser().error("--store goes with throughput, across, cost and takeover alone")
    if options.store is None and (options.processes is not None or options.name in ON_POSTGRES):
        _parser().error("that needs --store, the URL of a PostgreSQL database")
    if options.processes is not None and options.name != "throughput":
        _parser().error("--processes goes with throughput alone")
    if options.within and options.processes is None:
        _parser().error("--within goes with --processes alone")


def _sizes_of_find(options: argparse.Namespace) -> find.Sizes:
    sizes = find.QUICK if options.quick else find.Sizes()
    return replace(sizes, instances=options.instances or sizes.instances, plans=options.plans)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("name", choices=[*BENCHMARKS, *ON_POSTGRES, "all"])
    parser.add_argument("--json", action="store_true", help="one JSON object per benchmark")
    parser.add_argument("--store-dir", metavar="DIR", help="where the databases go, on a real disk")
    parser.add_argument(
        "--store", metavar="URL", help="throughput: in this PostgreSQL database, not in a file"
    )
    parser.add_argument(
        "--processes", type=_at_least_one, metavar="N", help="throughput: so many, against one"
    )
    parser.add_argument(
        "--within",
        metavar="COMMAND",
        default="",
        help='--processes: what starts each of them, as "systemd-run --scope -p CPUQuota=25%%"',
    )
    parser.add_argument("--quick", action="store_true", help="small sizes; says little")
    parser.add_argument("--rounds", type=_at_least_one, default=3, help="per measure (3)")
    parser.add_argument(
        "--busy",
        type=_share,
        default=0.5,
        help="share of other work on the loop (0.5; 0: none, nor any with --processes)",
    )
    parser.add_argument(
        "--instances", type=_at_least_one, metavar="N", help="find: among so many (1,000,000)"
    )
    parser.add_argument("--plans", action="store_true", help="find: print the query plans")
    return parser


def _at_least_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def _share(text: str) -> float:
    share = float(text)
    if not 0 <= share <= 0.9:
        raise argparse.ArgumentTypeError("from 0 to 0.9")
    return share


@contextmanager
def _progress(name: str) -> Iterator[Callable[[str], None]]:
    """A line on the terminal that says what is being measured; silent where there is none."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console

    console = Console(stderr=True)
    with console.status(name) as status:
        yield lambda text: status.update(f"{name}: {text}")


if __name__ == "__main__":
    sys.exit(main())
