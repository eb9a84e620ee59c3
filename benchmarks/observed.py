"""What it costs to be observed: the same load without and with, in pairs one right after the other.

``VARIANTS`` says what is switched on; another one is a line. Metrics are scraped every second
meanwhile, from a thread, which is more often than anybody does. Next to read: ``throughput.py``.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest

from benchmarks.load import closed_loop, names, open_all, runtime_over
from benchmarks.measure import Bench, Measure, run_rounds, stopwatch
from benchmarks.result import Result
from perdure import Runtime, SagaRef
from perdure.observer import HOOKS, Observer
from perdure.ops.prometheus import Metrics

__all__ = ["QUICK", "VARIANTS", "Sizes", "run"]

TARGET = 0.9
SCRAPE_S = 1.0


@dataclass(frozen=True, slots=True)
class Sizes:
    """Instances, one message of each in flight, and the turns of each."""

    instances: int = 1_000
    turns: int = 40


QUICK = Sizes(turns=10)


class Counting(Observer):
    """Hears everything, and counts it."""

    heard = 0


def _count(self: Counting, event: object) -> None:
    self.heard += 1


for _methods in HOOKS.values():
    setattr(Counting, _methods[0], _count)


@contextmanager
def _observed(runtime: Runtime) -> Iterator[None]:
    runtime.observe(Counting())
    yield


@contextmanager
def _metrics(runtime: Runtime) -> Iterator[None]:
    """Metrics, and somebody who scrapes them."""
    metrics, ended = Metrics(runtime, CollectorRegistry()), threading.Event()

    def scrape() -> None:
        while not ended.wait(SCRAPE_S):
            generate_latest(metrics.registry)

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        yield
    finally:
        ended.set()  # not joined: the loop would stand still that a scrape may wait for


@contextmanager
def _transitions(runtime: Runtime) -> Iterator[None]:
    """State transitions go to a log that drops them."""
    logger, handler = logging.getLogger("perdure.transitions"), logging.NullHandler()
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(logging.NOTSET)
        logger.removeHandler(handler)


@contextmanager
def _nothing(runtime: Runtime) -> Iterator[None]:
    yield


@dataclass(frozen=True, slots=True)
class Variant:
    """Something that observes a runtime: while it is switched on, or as an argument of it.

    ``target`` None: the ratio is shown, and not judged.
    """

    name: str
    switch_on: Callable[[Runtime], AbstractContextManager[None]] = _nothing
    options: Callable[[], Mapping[str, Any]] = dict
    target: float | None = TARGET


OFF = Variant("off", target=None)

VARIANTS = (
    Variant("metrics", _metrics),
    Variant("transitions logged", _transitions),
    Variant("every event heard", _observed, target=None),
)


def run(bench: Bench, sizes: Sizes = Sizes()) -> Result:
    """Turns per second with each variant against those without, right before."""
    measures: list[tuple[str, Measure]] = []
    for variant in VARIANTS:
        measures += [
            (f"before {variant.name}", _measure(bench, sizes, f"off, {variant.name}", OFF)),
            (variant.name, _measure(bench, sizes, variant.name, variant)),
        ]
    rounds = run_rounds(bench, measures)
    result = Result("observed", rounds.disturbance())
    for variant in VARIANTS:
        on, off = variant.name, f"off, {variant.name}"
        result.figures += [
            rounds.figure(off, "turns/s", "not observed"),
            rounds.figure(on, "turns/s"),
            rounds.figure(f"{off} cpu", "us/turn", "not observed, cpu"),
            rounds.figure(f"{on} cpu", "us/turn"),
        ]
        result.ratios += [
            rounds.ratio(f"{on} / off", on, off, variant.target),
            rounds.ratio(f"{on}: the same by cpu", f"{off} cpu", f"{on} cpu"),
        ]
    result.notes.append(
        f"{sizes.instances:,} instances, one command a turn; metrics scraped every {SCRAPE_S:g} s"
    )
    return result


def _measure(bench: Bench, sizes: Sizes, name: str, variant: Variant) -> Measure:
    def measure() -> Mapping[str, float]:
        with bench.fresh() as path:

            async def main() -> dict[str, float]:
                async with runtime_over(path, **variant.options()) as runtime:
                    refs = await open_all(runtime, names(sizes.instances))
                    with variant.switch_on(runtime):
                        return await _turns(runtime, refs)

            return asyncio.run(main())

    async def _turns(runtime: Runtime, refs: list[SagaRef]) -> dict[str, float]:
        with stopwatch() as watch:
            await closed_loop(runtime, refs, sizes.turns)
        count = sizes.instances * sizes.turns
        return {name: watch.rate(count), f"{name} cpu": watch.cpu_us(count)}

    return measure
