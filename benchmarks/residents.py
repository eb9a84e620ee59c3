"""What 100,000 resident instances cost: memory each, and time for everybody.

Memory is measured by ``tracemalloc`` in a run of its own, since it slows everything down. What the
user's state and id take is measured in the same way and subtracted. Next to read: ``load.py``.
"""

from __future__ import annotations

import asyncio
import gc
import random
import tracemalloc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from benchmarks.load import closed_loop, names, open_all, runtime_over, scattered
from benchmarks.measure import Bench, run_rounds, stopwatch
from benchmarks.result import Figure, Ratio, Result
from benchmarks.sagas import OrderState
from perdure import Runtime, SagaRef

__all__ = ["QUICK", "Sizes", "run"]

TARGET = 0.8
TARGET_BYTES = 2_500.0


@dataclass(frozen=True, slots=True)
class Sizes:
    """``turns`` are taken by ``active`` instances, among ``few`` or ``many`` resident ones."""

    few: int = 1_000
    many: int = 100_000
    turns: int = 40_000
    traced: int = 100_000
    active: int = 1_000


QUICK = Sizes(many=10_000, turns=10_000, traced=5_000)


def run(bench: Bench, sizes: Sizes = Sizes()) -> Result:
    """Memory per resident, and rates among many residents against among few."""
    rounds = run_rounds(
        bench,
        [
            ("few", partial(_rates, bench, sizes, "few", sizes.few)),
            ("many", partial(_rates, bench, sizes, "many", sizes.many)),
        ],
    )
    bench.tell("memory")
    bytes_each = _bytes_each(bench, sizes.traced)
    result = Result("residents", rounds.disturbance())
    result.figures.append(Figure("memory per resident", bytes_each, "bytes"))
    for size, count in (("few", sizes.few), ("many", sizes.many)):
        for what, unit in _UNITS.items():
            result.figures.append(rounds.figure(f"{size} {what}", unit, f"{count:,}: {what}"))
    result.ratios += [
        rounds.ratio("rate, the same active ones", "many rate", "few rate", TARGET),
        rounds.ratio("rate, all active at random", "many rate at random", "few rate", TARGET),
        rounds.ratio("start", "many start", "few start"),
        rounds.ratio("look-up", "many look-up", "few look-up"),
        rounds.ratio("passivation", "many passivation", "few passivation"),
        Ratio("memory / 2,500 bytes", bytes_each / TARGET_BYTES, 1.0, at_least=False),
    ]
    result.notes += [
        f"rates: {sizes.active:,} in flight; the same {sizes.active:,} instances active, or all",
        "at random includes what the larger journal index costs the store",
        f"memory by tracemalloc at {sizes.traced:,}, one turn each, user's state and id subtracted",
    ]
    return result


_UNITS = {
    "start": "us",
    "look-up": "us",
    "rate": "turns/s",
    "rate at random": "turns/s",
    "passivation": "us",
}


def _rates(bench: Bench, sizes: Sizes, size: str, residents: int) -> Mapping[str, float]:
    with bench.fresh() as path:

        async def main() -> dict[str, float]:
            async with runtime_over(path) as runtime:
                with stopwatch() as start:
                    refs = await open_all(runtime, names(residents))
                gc.collect()
                chooser = random.Random(3)
                active = chooser.sample(refs, min(sizes.active, residents))
                each = max(sizes.turns // len(active), 1)
                with stopwatch() as same:
                    await closed_loop(runtime, active, each)
                targets = chooser.choices(refs, k=sizes.turns)
                with stopwatch() as at_random:
                    await scattered(runtime, targets, each * len(active) + 1)
                return {
                    f"{size} start": start.wall_s / residents * 1e6,
                    f"{size} rate": same.rate(each * len(active)),
                    f"{size} rate at random": at_random.rate(sizes.turns),
                    f"{size} look-up": await _look_up_us(runtime, active),
                    f"{size} passivation": _passivation_us(runtime, active),
                }

        return asyncio.run(main())


async def _look_up_us(runtime: Runtime, refs: Sequence[SagaRef]) -> float:
    with stopwatch() as watch:
        for ref in refs:
            if await runtime.state(ref) is None:
                raise AssertionError(f"{ref} is not there")
    return watch.wall_s / len(refs) * 1e6


def _passivation_us(runtime: Runtime, refs: Sequence[SagaRef]) -> float:
    before = runtime.residents
    with stopwatch() as watch:
        for ref in refs:
            ref.stop(block=False)
    if runtime.residents != before - len(refs):
        raise AssertionError(f"{before - runtime.residents} of {len(refs)} left memory")
    return watch.wall_s / len(refs) * 1e6


def _bytes_each(bench: Bench, residents: int) -> float:
    """What a resident takes beyond the user's state and id."""
    ids = names(residents)

    async def main() -> int:
        with bench.fresh() as path:
            async with runtime_over(path) as runtime:
                await open_all(runtime, ["warm"])  # what is made once is made now
                before = _traced()
                await open_all(runtime, ids)
                await runtime.settled()
                return _traced() - before

    tracemalloc.start()
    try:
        ours = asyncio.run(main())
        before = _traced()
        kept = [OrderState(f"o-{number:06}", number) for number in range(residents)]
        users = _traced() - before
        del kept
    finally:
        tracemalloc.stop()
    return (ours - users) / residents


def _traced() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]
