"""Instances found by what their heads say, without the code that wrote them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest

from perdure import Indexed, ProcessManager, Runtime, applies, message, starts, stops
from perdure.core.commit import Status
from perdure.core.index_key import index_key
from perdure.errors import DefinitionError
from perdure.ops import search
from perdure.ops.inspection import Inspection
from perdure.ops.search import Wanted, keys_of
from perdure.testing import SimulatedClock
from tests.runtime.support import quickly
from tests.sagas import Closed


@message(name="search-test.bought")
class Bought:
    id: str
    country: str
    amount: int


@dataclass(frozen=True)
class Purchase:
    country: Indexed[str] = ""
    amount: Indexed[int] = 0
    note: str = ""


class Buying(ProcessManager[Purchase]):
    name = "Buying"

    @starts(Bought, by="id")
    def bought(self, state, event, do): ...

    @stops(Closed, by="id")
    def closed(self, state, event, do): ...

    @applies(Bought)
    def is_bought(self, state, event):
        return Purchase(event.country, event.amount)


@asynccontextmanager
async def purchases(tmp_path) -> AsyncIterator[Inspection]:
    """Thirty, an hour apart, of which every fifth has ended; looked at beside their runtime."""
    url, clock = f"sqlite+aiosqlite:///{tmp_path / 'store.db'}", SimulatedClock()
    async with Runtime(url, [Buying], clock=clock) as runtime:
        for n in range(30):
            ref = runtime.ref(Buying, f"b-{n:02}")
            await runtime.send(ref, Bought(f"b-{n:02}", "CH" if n % 3 else "7", n % 4))
            if n % 5 == 0:
                await runtime.send(ref, Closed(f"b-{n:02}"))
            await clock.advance(timedelta(hours=1))
        async with Inspection(url, clock=clock) as look:
            yield look


async def numbers(look: Inspection, wanted: Wanted, after: str = "") -> list[int]:
    found = [one async for one in look.find(wanted, after=after)]
    return [int(one.correlation_id[2:]) for one in found]


QUESTIONS = {
    "field": (Wanted("Buying", fields={"country": "CH"}), lambda n: n % 3),
    "number": (Wanted("Buying", fields={"amount": "2"}), lambda n: n % 4 == 2),
    "text that looks like one": (Wanted("Buying", fields={"country": "7"}), lambda n: not n % 3),
    "two": (
        Wanted("Buying", fields={"amount": "2", "country": "CH"}),
        lambda n: n % 4 == 2 and n % 3,
    ),
    "status": (
        Wanted("Buying", (Status.COMPLETED,), {"country": "CH"}),
        lambda n: n % 3 and not n % 5,
    ),
    "idle": (Wanted("Buying", idle_for=timedelta(hours=20)), lambda n: n <= 10),
    "old": (Wanted("Buying", older_than=timedelta(hours=20)), lambda n: n <= 10),
    "old and idle of a country": (
        Wanted(
            "Buying",
            (Status.RUNNING,),
            {"country": "CH"},
            timedelta(hours=20),
            timedelta(hours=22),
        ),
        lambda n: n <= 8 and n % 3 and n % 5,
    ),
    "every one": (Wanted("Buying"), lambda n: True),
    "ended": (Wanted("Buying", (Status.COMPLETED,)), lambda n: not n % 5),
    "nobody": (Wanted("Buying", fields={"country": "XX"}), lambda n: False),
    "another saga": (Wanted("Other", fields={"country": "CH"}), lambda n: False),
}


@pytest.mark.parametrize("page", [1, 3, 1000])
def test_those_that_are_wanted_are_found_also_page_by_page(tmp_path, monkeypatch, page):
    monkeypatch.setattr(search, "PAGE", page)

    @quickly
    async def scenario() -> None:
        async with purchases(tmp_path) as look:
            for wanted, is_meant in QUESTIONS.values():
                found = await numbers(look, wanted)
                assert sorted(found) == [n for n in range(30) if is_meant(n)]
                for count in range(1, len(found), 4):
                    last = f"Buying/b-{found[count - 1]:02}"
                    assert await numbers(look, wanted, last) == found[count:]

    scenario()


@quickly
async def test_behind_one_that_has_another_value_now_the_others_follow(tmp_path):
    async with purchases(tmp_path) as look:
        others = await numbers(look, Wanted("Buying", fields={"country": "7"}), "Buying/b-13")
        assert others == [15, 18, 21, 24, 27]


@quickly
async def test_behind_one_that_is_not_idle_any_more_nothing_is_left_out_silently(tmp_path):
    async with purchases(tmp_path) as look:
        for after in ("Buying/b-29", "Buying/none"):
            with pytest.raises(DefinitionError, match=f"{after} has changed"):
                await numbers(look, Wanted("Buying", idle_for=timedelta(hours=20)), after)


@quickly
async def test_a_field_without_an_index_is_refused_with_those_that_have_one(tmp_path):
    async with purchases(tmp_path) as look:
        with pytest.raises(DefinitionError, match="no index on note; indexed are amount, country"):
            await numbers(look, Wanted("Buying", fields={"note": "x"}))


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("CH", ["CH"]),
        ("7", ["7", 7, Decimal("7.0")]),
        ("-1.50", ["-1.50", Decimal("-1.5")]),
        ("true", ["true", True]),
        ("false", ["false", False]),
        ("null", ["null", None]),
        ("2026-11-20", ["2026-11-20", date(2026, 11, 20)]),
        ("2026-11-20T03:00:00Z", [datetime(2026, 11, 20, 3, tzinfo=UTC)]),
        ("0" * 31 + "7", [UUID(int=7), 7]),
        ("NaN", ["NaN"]),
        ("", [""]),
        ("1e999999999999", ["1e999999999999"]),
    ],
)
def test_what_is_typed_stands_for_every_value_that_is_written_so(text, values):
    assert {index_key(value) for value in values} <= keys_of(text)
