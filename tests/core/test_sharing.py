"""Values that nobody can change are handed on as they are; all others are not."""

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import Enum

import pytest

from perdure import AnyMessage, ExternalEvent, message
from perdure.core.sharing import Sharing
from perdure.core.step_events import PerformStep


class Colour(Enum):
    RED = "red"


@message(name="sharing-test.Plain")
class Plain:
    name: str
    at: datetime | None = None
    amounts: tuple[Decimal, ...] = ()
    colour: Colour = Colour.RED


@message(name="sharing-test.Open")
class Open:
    items: list[str] = field(default_factory=list)


@message(name="sharing-test.Loose")
@dataclass
class Loose:
    name: str


@message(name="sharing-test.Holder")
class Holder:
    what: AnyMessage | None
    name: str = ""


@message(name="sharing-test.OpenHolder")
class OpenHolder:
    what: AnyMessage
    items: list[str]


@pytest.mark.parametrize(
    ("value", "may"),
    [
        (Plain("a"), True),
        (Open(["a"]), False),
        (Loose("a"), False),
        (Holder(Plain("a")), True),
        (Holder(None), True),
        (Holder(Open()), False),
        (Holder(Holder(Plain("a"))), True),
        (Holder(Holder(Loose("a"))), False),
        (Holder(["a"]), False),
        (OpenHolder(Plain("a"), []), False),
        (PerformStep("a", "k", Plain("a"), True), True),
        (PerformStep("a", "k", Open(), True), False),
        (ExternalEvent("a", {}), False),
        ("text", True),
        (["list"], False),
        ({}, False),
        (object(), False),
    ],
)
def test_what_may_be_shared(value, may):
    sharing = Sharing()
    assert sharing.may_share(value) is may
    assert sharing.may_share(value) is may, "remembered as it was found"
