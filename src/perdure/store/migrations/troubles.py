"""What the server refuses to whoever migrates, in our words, where a store would be told another.

Knows the codes of SQL's errors. Next to read: ``running.py``; ``../postgres_errors.py``.
"""

from __future__ import annotations

from perdure.errors import StoreError, StoreNotWritable, StoreUnavailable
from perdure.store import postgres_errors
from perdure.store.postgres_address import Address
from perdure.store.postgres_errors import is_lost, sqlstate_of

__all__ = ["is_held_up", "told"]

_TOLD: dict[str, tuple[type[StoreError], str]] = {
    "42501": (StoreNotWritable, "connect as the owner of the schema {schema} and its tables"),
    "42P07": (
        StoreError,
        "tables of that name are there that perdure did not make: name another schema, "
        "?schema=perdure",
    ),
    "40P01": (StoreUnavailable, "others use the tables in another order: try again"),
    "55P03": (
        StoreUnavailable,
        "another perdure migrates, or a long transaction holds a table: wait for it, or end it",
    ),
}


def is_held_up(error: Exception) -> bool:
    """Others hold a lock for too long, or each waited for the other."""
    return sqlstate_of(error) in ("55P03", "40P01")


def told(error: Exception, address: Address) -> StoreError:
    """The StoreError for what a driver raised; raise it ``from`` the original."""
    problem = postgres_errors.told(error, address)
    if known := _TOLD.get(sqlstate_of(error)):
        kind, remedy = known
        said = remedy.format(schema=address.quoted_schema)
        return kind(problem.problem, remedy=said)
    if is_lost(error):
        return StoreUnavailable(problem.problem, remedy="it is done whole or not at all: try again")
    return problem
