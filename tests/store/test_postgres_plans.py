"""How PostgreSQL runs our statements: along an index, whatever it believes of the tables."""

from __future__ import annotations

from typing import Any

import pytest

from perdure.core.head_query import Order
from perdure.store import read_statements, write_statements
from perdure.store.find_statements import counting, finding
from perdure.store.postgres import PostgresStore
from perdure.store.postgres_database import Database
from perdure.store.postgres_statements import text_for
from perdure.store.read_statements import Query, heads_page
from perdure.store.statements import ManyRows, Statement
from perdure.testing.sample_rows import deadline, head, inbox_row, outbox_row, turn
from tests.store.support_postgres import on_loop, opened

SMALL = ("shards", "queues", "sagas")
"""Tables of a few rows."""

COUNTS = ("QUEUE_DEPTHS",)


def named(module: Any) -> dict[str, Any]:
    found = {name: getattr(module, name) for name in module.__all__}
    kinds = (Query, ManyRows, Statement)
    return {name: one for name, one in found.items() if isinstance(one, kinds)}


STATEMENTS = {
    **named(read_statements),
    **named(write_statements),
    **{f"heads {a} {b}": heads_page(a, b) for a in (False, True) for b in (False, True)},
    **{f"find {each} {way}": finding(each, way) for each in Order for way in (False, True)},
    **{f"count {each}": counting(each) for each in Order},
}


async def fill(url: str) -> None:
    """Some thousand rows of everything that waits."""
    store = PostgresStore(url, shard=3)
    async with opened(store) as [epoch]:
        for name in (f"Order/{number}" for number in range(150)):
            jobs = tuple(outbox_row(name, 1, index) for index in range(100))
            waiting = [inbox_row(name, str(number)) for number in range(20)]
            due = tuple(deadline(name, str(number), 1, number) for number in range(20))
            first = turn(name, 1, epoch, outbox=jobs, deadlines_set=due, head=head(name))
            await store.write([first, *waiting])


@pytest.mark.parametrize("first", ["", "ANALYZE", "fill", "fill ANALYZE"])
@on_loop
async def test_no_statement_goes_through_a_table_and_no_walk_sorts(postgres, first):
    """Also where the server knows nothing of the tables, or what was true some time ago."""
    if "fill" in first:
        await fill(postgres)
    database = Database(postgres)
    await database.open()
    connection = await database.connect()
    if "ANALYZE" in first:
        await connection.execute("ANALYZE")
    try:
        for name, statement in STATEMENTS.items():
            prepared = await connection.prepare(text_for(statement).sql)
            values = [_value(each.name) for each in prepared.get_parameters()]
            plan = (await prepared.explain(*values))[0]["Plan"]
            steps = list(_steps(plan))
            scanned = {
                step["Relation Name"] for step in steps if step["Node Type"] == "Seq Scan"
            } - {*SMALL}
            assert not scanned, (name, scanned)
            if "CROSS JOIN LATERAL" in text_for(statement).sql and isinstance(statement, Query):
                sorts = [step for step in steps if "Sort" in step["Node Type"]]
                assert len(sorts) == 1, (name, sorts)  # of what the shards give
    finally:
        await connection.close()
        await database.close()


def _value(kind: str) -> Any:
    if kind.endswith("[]"):
        return [_value(kind.removesuffix("[]"))] * 2
    return {"text": "x", "bytea": b"x"}.get(kind, 1)


def _steps(plan: dict[str, Any]) -> Any:
    yield plan
    for below in plan.get("Plans", ()):
        yield from _steps(below)
