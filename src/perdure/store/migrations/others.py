"""For the user's own Alembic beside ours: what is not theirs. Knows neither it nor a connection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from perdure.store.postgres_schema import SCHEMA, VERSION_TABLE, metadata

__all__ = ["not_perdures"]


def not_perdures(schema: str = SCHEMA) -> Callable[..., bool]:
    """Have the user's ``alembic revision --autogenerate`` neither see nor drop our tables.

    >>> include_object = not_perdures("public")        # in their env.py, with our ``schema=``
    >>> context.configure(connection=connection, target_metadata=metadata,
    ...                   include_object=include_object)

    Only needed where our tables are in a schema that theirs looks into.
    """
    names = {VERSION_TABLE, *metadata.tables}

    def include_object(
        thing: Any, name: str | None, kind: str, reflected: bool, compare_to: Any
    ) -> bool:
        if kind != "table" or not reflected or name not in names:
            return True
        return compare_to is not None or thing.schema not in (None, schema)

    return include_object
