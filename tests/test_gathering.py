"""Gathering: who has answered is counted, in any order, over restarts, until a deadline."""

from __future__ import annotations

import doctest
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import perdure.gathering
from perdure import (
    AnyMessage,
    Effects,
    Gathering,
    ProcessManager,
    Runtime,
    Status,
    applies,
    continues,
    message,
    on_deadline,
    starts,
)
from perdure.codec import Codec, TypeRegistry
from perdure.errors import DefinitionError, EncodeError
from tests.runtime.support import quickly, reopened, view_of

NAMES = ("acme", "bolt", "core")
names = st.sampled_from([*NAMES, "zinc"])
EMPTY: Gathering[int] = Gathering(NAMES)
answers = st.dictionaries(names, st.integers(0, 9), max_size=4)


# The value


def test_it_counts_who_has_answered_and_not_how_many_answers_came() -> None:
    offers: Gathering[int] = Gathering(NAMES)
    assert (offers.missing, offers.lacking, offers.is_complete) == (NAMES, 3, False)
    for who, price in (("core", 3), ("core", 3), ("core", 9), ("acme", 1)):
        offers = offers.received(who, price)
    assert (offers.answers, offers.missing, offers.lacking) == (
        {"core": 3, "acme": 1},
        ("bolt",),
        1,
    )
    assert offers.received("bolt", 2).is_complete


def test_so_many_of_those_expected_suffice_and_later_ones_are_kept() -> None:
    offers: Gathering[int] = Gathering(NAMES, needed=2)
    offers = offers.received("bolt", 2).received("acme", 1)
    assert (offers.is_complete, offers.missing) == (True, ("core",))
    offers = offers.received("core", 3)
    assert (offers.is_complete, len(offers.answers), offers.lacking) == (True, 3, 0)


def test_a_count_takes_anybodys_answer() -> None:
    votes: Gathering[str] = Gathering(needed=2)
    assert (votes.missing, votes.lacking) == ((), 2)
    votes = votes.received("ann", "yes").received("ann", "no").received("bob", "no")
    assert (votes.is_complete, votes.answers) == (True, {"ann": "yes", "bob": "no"})


def test_who_is_not_expected_is_kept_apart_and_does_not_count() -> None:
    offers: Gathering[int] = Gathering(("acme",))
    offers = offers.received("zinc", 1).received("zinc", 2)
    assert (offers.unexpected, offers.answers, offers.is_complete) == ({"zinc": 1}, {}, False)


def test_none_is_an_answer() -> None:
    done: Gathering[None] = Gathering(("acme",))
    assert done.received("acme", None).is_complete


def test_nobody_is_waited_for_where_nobody_is_expected() -> None:
    nobody: Gathering[int] = Gathering(())
    assert (nobody.is_complete, Gathering() == nobody) == (True, True)
    nobody = nobody.received("ann", 1)
    assert (nobody.is_complete, nobody.answers, nobody.unexpected) == (True, {}, {"ann": 1})


def test_the_value_it_was_stays_as_it_was() -> None:
    before: Gathering[int] = Gathering(NAMES)
    after = before.received("acme", 1)
    assert (before.answers, after.answers) == ({}, {"acme": 1})
    assert after.received("acme", 2) is after


@pytest.mark.parametrize(
    "make",
    [
        lambda: Gathering(["acme"]),  # type: ignore[arg-type]
        lambda: Gathering("acme"),  # type: ignore[arg-type]
        lambda: Gathering(3),  # type: ignore[arg-type]
        lambda: Gathering(("",)),
        lambda: Gathering((1,)),  # type: ignore[arg-type]
        lambda: Gathering(("acme", "bolt", "acme")),
        lambda: Gathering(NAMES, needed=0),
        lambda: Gathering(NAMES, needed=4),
        lambda: Gathering(needed=0),
        lambda: Gathering(needed=1.5),  # type: ignore[arg-type]
        lambda: Gathering(needed=True),
        lambda: EMPTY.received("", 1),
        lambda: EMPTY.received(None, 1),  # type: ignore[arg-type]
    ],
)
def test_nonsense_is_refused_and_says_what_to_do(make: Callable[[], Any]) -> None:
    with pytest.raises(DefinitionError) as caught:
        make()
    assert caught.value.remedy


def gathered(gathering: Gathering[int], arrived: list[tuple[str, int]]) -> Gathering[int]:
    for who, answer in arrived:
        gathering = gathering.received(who, answer)
    return gathering


gatherings: st.SearchStrategy[Gathering[int]] = st.one_of(
    st.just(Gathering(NAMES)),
    st.integers(1, 3).map(lambda n: Gathering(NAMES, needed=n)),
    st.integers(1, 4).map(lambda n: Gathering(needed=n)),
)


@given(gatherings, answers, st.data())
def test_in_any_order_and_however_often_repeated_it_comes_to_the_same(
    gathering: Gathering[int], given_: dict[str, int], data: st.DataObject
) -> None:
    once = list(given_.items())
    repeats = data.draw(st.lists(st.sampled_from(once), max_size=6)) if once else []
    arrived = data.draw(st.permutations(once + repeats))
    result = gathered(gathering, arrived)
    assert result == gathered(gathering, once)
    counted = set(given_) & set(gathering.expected or given_)
    assert set(result.answers) == counted
    assert set(result.unexpected) == set(given_) - counted
    assert all(result.answers[who] == given_[who] for who in counted)
    wanted = gathering.needed or len(gathering.expected)
    assert result.is_complete is (len(counted) >= wanted)
    assert result.lacking == max(0, wanted - len(counted))


def test_the_examples_in_the_module_are_true() -> None:
    assert doctest.testmod(perdure.gathering) == (0, 4)


# In a saga, over a store


@message(name="gathering-test.Wanted")
class Wanted:
    id: str
    suppliers: tuple[str, ...]
    needed: int | None = None


@message(name="gathering-test.AskOffer")
class AskOffer:
    id: str
    supplier: str


@message(name="gathering-test.Offer")
class Offer:
    id: str
    supplier: str
    price: int


@message(name="gathering-test.Chosen")
class Chosen:
    supplier: str
    offers: int


@dataclass(frozen=True)
class PurchaseState:
    id: str = ""
    offers: Gathering[Offer] = field(default_factory=Gathering)
    anything: Gathering[AnyMessage] = field(default_factory=lambda: Gathering(needed=9))
    plain: Gathering[Any] = field(default_factory=lambda: Gathering(needed=9))


class Purchase(ProcessManager[PurchaseState]):
    """Asks suppliers, and takes the cheapest of those that answer in time."""

    name = "gathering-test.Purchase"

    @starts(Wanted, by="id")
    def wanted(self, state: PurchaseState, event: Wanted, do: Effects) -> None:
        for supplier in state.offers.missing:
            do.send(AskOffer(event.id, supplier))
        do.deadline("enough", timedelta(days=2))

    @continues(Offer, by="id")
    def offered(self, state: PurchaseState, event: Offer, do: Effects) -> None:
        if state.offers.is_complete:
            self.take_best(state, do)

    @on_deadline("enough")
    def late(self, state: PurchaseState, do: Effects) -> None:
        self.take_best(state, do)

    def take_best(self, state: PurchaseState, do: Effects) -> None:
        if not state.offers.answers:
            do.fail("nobody made an offer")
            return
        best = min(state.offers.answers.values(), key=lambda offer: offer.price)
        do.complete(Chosen(best.supplier, len(state.offers.answers)))

    @applies(Wanted)
    def begin(self, state: PurchaseState, event: Wanted) -> PurchaseState:
        offers: Gathering[Offer] = Gathering(event.suppliers, event.needed)
        return replace(state, id=event.id, offers=offers)

    @applies(Offer)
    def receive(self, state: PurchaseState, event: Offer) -> PurchaseState:
        return replace(
            state,
            offers=state.offers.received(event.supplier, event),
            anything=state.anything.received(event.supplier, event),
            plain=state.plain.received(event.supplier, [event.price]),
        )


@pytest.mark.parametrize(
    ("needed", "offers", "chosen"),
    [
        (None, {"acme": 7, "bolt": 5, "core": 6}, Chosen("bolt", 3)),
        (2, {"acme": 7, "core": 6, "bolt": 5}, Chosen("core", 2)),
        (None, {"zinc": 1, "acme": 7}, Chosen("acme", 1)),  # the rest does not come in time
        (None, {"zinc": 1}, None),
    ],
)
@quickly
async def test_a_saga_waits_for_all_or_so_many_or_a_deadline(store, clock, needed, offers, chosen):
    async with Runtime(store, [Purchase], clock=clock) as runtime:
        await runtime.publish(Wanted("p", NAMES, needed))
    for supplier, price in offers.items():
        store = reopened(store)
        async with Runtime(store, [Purchase], clock=clock) as runtime:
            for _ in range(2):
                await runtime.publish(Offer("p", supplier, price))
            await clock.advance(timedelta(hours=1))
    async with Runtime(reopened(store), [Purchase], clock=clock) as runtime:
        await clock.advance(timedelta(days=2))
        seen = await view_of(runtime, runtime.ref(Purchase, "p"))
        assert seen.result == chosen
        assert seen.status is (Status.COMPLETED if chosen else Status.FAILED)
        assert seen.state.anything.answers.keys() == seen.state.plain.answers.keys()
        expected = {k: Offer("p", k, v) for k, v in offers.items() if k in NAMES}
        known = seen.state.offers.answers
        assert known == {k: expected[k] for k in known}
        assert seen.state.offers.unexpected.keys() <= {"zinc"}


@given(gatherings, answers)
def test_it_comes_back_from_its_bytes(gathering: Gathering[int], given_: dict[str, int]) -> None:
    codec = Codec(TypeRegistry([PurchaseState]))
    offers = {who: Offer("p", who, price) for who, price in given_.items()}
    state = PurchaseState("p", Gathering(gathering.expected, gathering.needed))
    for who, offer in offers.items():
        state = replace(
            state,
            offers=state.offers.received(who, offer),
            anything=state.anything.received(who, offer),
            plain=state.plain.received(who, [offer.price]),
        )
    assert codec.decode(*codec.encode(state)) == state


def test_an_answer_of_another_type_than_declared_is_refused_by_name() -> None:
    codec = Codec(TypeRegistry([PurchaseState]))
    wrong: Any = Chosen("acme", 1)
    state = PurchaseState("p", Gathering(NAMES, answers={"acme": wrong}))
    with pytest.raises(EncodeError, match=r"offers\.answers\['acme'\]"):
        codec.encode(state)
