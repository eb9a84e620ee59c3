"""Which instances are meant: by saga, status, quarantine, and what indexed fields hold.

    Selection("Order", "stuck", False, ["country=CH"])

Next to read: ``looking.py``, ``bulk.py``.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Annotated, Any

import typer

from perdure.core.commit import Status
from perdure.errors import DefinitionError
from perdure.ops.inspection import Inspection
from perdure.ops.looked_at import InstanceSeen, QuarantineSeen
from perdure.ops.search import Wanted
from perdure.runtime.looking.views import status_of

__all__ = ["IdleOption", "OlderOption", "Selection", "StatusOption", "WhereOption", "moment_of"]

StatusOption = Annotated[
    str | None,
    typer.Option("--status", help=f"Of this status: {', '.join(Status)}."),
]
WhereOption = Annotated[
    list[str] | None,
    typer.Option("--where", metavar="FIELD=VALUE", help="Whose indexed field holds this value."),
]


IdleOption = Annotated[
    str | None,
    typer.Option("--idle-for", metavar="AGE", help="To whom nothing has happened for 2d, 3h, 10m."),
]
OlderOption = Annotated[
    str | None, typer.Option("--older-than", metavar="AGE", help="Begun longer ago than 2d, 3h.")
]


@dataclass(frozen=True, slots=True)
class Selection:
    """What instances have in common, as it is said on the command line."""

    saga: str | None
    status: str | None = None
    quarantined: bool = False
    where: list[str] = field(default_factory=list)
    idle_for: str | None = None
    older_than: str | None = None

    @property
    def is_everything(self) -> bool:
        """Nothing was said."""
        said = (self.saga, self.status, self.where, self.idle_for, self.older_than)
        return not self.quarantined and not any(said)

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
        wanted = self._wanted()
        if self.quarantined:
            if wanted is not None or self.status:
                raise DefinitionError(
                    "--quarantined goes with --saga only", remedy="leave the other options away"
                )
            for aside in await look.quarantined(self.saga):
                if f"{aside.saga}/{aside.correlation_id}" > after:
                    yield aside
        elif wanted is not None:
            async for one in look.find(wanted, after=after):
                yield one
        else:
            if self.saga and after.startswith(f"{self.saga}/"):
                after = after[len(self.saga) + 1 :]
            async for one in look.instances(self.saga, status=self.status, after=after):
                yield one

    def _wanted(self) -> Wanted | None:
        """What has to be found by another index than that of ids, if anything."""
        if not (self.where or self.idle_for or self.older_than):
            return None
        if not self.saga:
            raise DefinitionError(
                "fields and ages are those of a saga", remedy="name the saga, too"
            )
        status = status_of(self.status)
        return Wanted(
            self.saga,
            () if status is None else (status,),
            conditions(self.where),
            _age(self.idle_for),
            _age(self.older_than),
        )


_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def _age(text: str | None) -> timedelta | None:
    if text is None:
        return None
    found = re.fullmatch(r"(\d{1,6})([smhd])", text, re.ASCII)
    if found is None:
        raise DefinitionError(f"{text!r} is no age", remedy="give one such as 30s, 10m, 3h, 2d")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def moment_of(text: str) -> datetime:
    """The moment that is written so; without a zone, as here. Raises ``DefinitionError``."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise DefinitionError(
            f"{text!r} is no moment", remedy="give one such as 2026-11-20T03:00:00Z"
        ) from None
    return found.astimezone() if found.tzinfo is None else found


def conditions(where: list[str]) -> dict[str, str]:
    """Field and value of each. Raises ``DefinitionError``."""
    found = {}
    for one in where:
        name, equals, value = one.partition("=")
        if not name or not equals:
            raise DefinitionError(f"{one!r} is no condition", remedy="give --where field=value")
        found[name] = value
    return found
