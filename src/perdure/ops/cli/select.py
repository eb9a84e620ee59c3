"""Which instances are meant: by saga, status, quarantine, and what indexed fields hold.

    Selection("Order", "stuck", False, ["country=CH"])

Next to read: ``looking.py``, ``bulk.py``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from perdure.core.commit import Status
from perdure.errors import DefinitionError
from perdure.ops.inspection import Inspection
from perdure.ops.looked_at import InstanceSeen, QuarantineSeen

__all__ = ["Selection", "StatusOption", "WhereOption"]

StatusOption = Annotated[
    str | None,
    typer.Option("--status", help=f"Of this status: {', '.join(Status)}."),
]
WhereOption = Annotated[
    list[str] | None,
    typer.Option("--where", metavar="FIELD=VALUE", help="Whose indexed field holds this value."),
]


@dataclass(frozen=True, slots=True)
class Selection:
    """What instances have in common."""

    saga: str | None
    status: str | None
    quarantined: bool
    where: list[str]

    @property
    def is_everything(self) -> bool:
        """Nothing was said."""
        return not (self.saga or self.status or self.quarantined or self.where)

    async def of(
        self, look: Inspection, after: str = "", limit: int | None = None
    ) -> AsyncIterator[InstanceSeen | QuarantineSeen]:
        """Those instances behind one, ``limit`` at most. Raises ``DefinitionError``."""
        count = 0
        async for one in self._found(look, after):
            if limit is not None and count >= limit:
                return
            count += 1
            yield one

    async def _found(self, look: Inspection, after: str) -> AsyncIterator[Any]:
        if self.saga and after.startswith(f"{self.saga}/"):
            after = after[len(self.saga) + 1 :]
        if not self.quarantined:
            async for one in look.instances(self.saga, status=self.status, after=after):
                yield one
            return
        for aside in await look.quarantined(self.saga):
            if f"{aside.saga}/{aside.correlation_id}" > after:
                yield aside


def conditions(where: list[str]) -> dict[str, str]:
    """Field and value of each. Raises ``DefinitionError``."""
    found = {}
    for one in where:
        name, equals, value = one.partition("=")
        if not name or not equals:
            raise DefinitionError(f"{one!r} is no condition", remedy="give --where field=value")
        found[name] = value
    return found
