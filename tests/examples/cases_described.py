"""Every example is described, drawn and checked; a warning stands here with its reason."""

from __future__ import annotations

from typing import Any

import pytest

import declarations
import document_approval
import document_processing
import money_transfer
import onboarding
import order_processing
import order_service
import travel_booking
from orders import OrderFulfilment
from perdure import Approvals
from perdure.describing import check, describe, markdown
from perdure.describing.sheets import sheet_of, table_of
from shop import QUEUES

MEMBERS: dict[str, list[Any]] = {
    "declarations": [declarations.Declaration, declarations.notifying],
    "document_approval": [
        document_approval.Dossier,
        Approvals,
        document_approval.publishing,
        document_approval.notices,
    ],
    "document_processing": [document_processing.letters],
    "money_transfer": [money_transfer.MoneyTransfer, money_transfer.bookings],
    "onboarding": [onboarding.newer_onboarding],
    "order_fulfilment": [OrderFulfilment, *QUEUES],
    "order_processing": [order_processing.processing],
    "order_service": [order_service.Order, order_service.fulfilment],
    "travel_booking": [travel_booking.travel],
}

RIGHTLY = {
    # It waits for nobody but the bank, which is asked for ever: a bank that is gone is not noticed.
    "money_transfer": ["no-timeout"],
    # A shop, and agencies, that are asked for ever.
    "order_processing": ["endless-step"],
    "travel_booking": ["endless-step"],
}


@pytest.mark.parametrize("name", MEMBERS)
def test_an_example_is_described_and_drawn(name: str) -> None:
    found = describe(MEMBERS[name])
    assert found.sagas
    for saga in found.sagas:
        assert sheet_of(saga)["kept"]
        assert table_of(saga)
    assert markdown(found).count("```mermaid") == len(found.sagas)


@pytest.mark.parametrize("name", MEMBERS)
def test_an_example_breaks_no_rule_but_knowingly(name: str) -> None:
    warned = check(describe(MEMBERS[name]))
    assert [one.rule for one in warned] == RIGHTLY.get(name, []), warned
