"""Ids as text: exact, without collisions, refused where they could not be."""

from enum import StrEnum
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.core.correlation import encode_id, instance_key, split_key
from perdure.errors import CorrelationFailed

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
ids = st.recursive(
    texts, lambda inner: st.lists(inner, min_size=1, max_size=3).map(tuple), max_leaves=6
)


@given(ids, ids)
def test_different_ids_never_share_an_encoding(one, other):
    if "" not in (one, other):
        assert (encode_id(one) == encode_id(other)) == (one == other)


@given(ids)
def test_a_key_is_taken_apart_again(one):
    if one != "":
        text = encode_id(one)
        assert split_key(instance_key("Order", text)) == ("Order", text)


class Colour(StrEnum):
    BLUE = "blue"


def test_a_single_id_is_its_text():
    number = uuid4()
    assert encode_id("o-1/2") == "o-1/2"
    assert encode_id(42) == encode_id("42") == "42"
    assert encode_id(number) == encode_id(str(number))
    assert encode_id(("a", 1, UUID(int=1))) == "(a,1,00000000-0000-0000-0000-000000000001)"
    assert encode_id(Colour.BLUE) == "blue"


@pytest.mark.parametrize(
    "wrong", [None, "", (), True, 1.5, b"x", ["a"], ("a", None), "a\0b", "x" * 1025, "\ud800"]
)
def test_what_names_no_instance_is_refused(wrong):
    with pytest.raises(CorrelationFailed):
        encode_id(wrong)
