"""Letters and answers as they travel: exact, small, and never code."""

from __future__ import annotations

import string
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure import errors
from perdure.codec import Codec
from perdure.codec.mail import (
    Answer,
    Carried,
    Refusal,
    Taken,
    pack_carried,
    pack_errand,
    pack_job_letter,
    pack_reply,
    payloads,
    unpack_carried,
    unpack_errand,
    unpack_job_letter,
    unpack_replies,
)
from perdure.codec.registry import TypeRegistry
from perdure.core.commit import OutboxKind, OutboxRow

TEXTS = st.text(max_size=2_000)
NUMBERS = st.integers(0, 2**62)
TAKEN = st.builds(
    Taken,
    NUMBERS,
    st.sampled_from(["applied", "parked", "missing"]),
    st.none() | NUMBERS,
    st.booleans(),
    st.none() | st.binary(max_size=5_000),
)
KINDS = [errors.HandlerFailed, errors.MailboxFull, errors.StoreUnavailable, errors.SchemaTooNew]
REFUSALS = st.builds(
    lambda token, kind, problem, remedy, is_written: Refusal(
        token, kind(problem, saga="Order", correlation_id="o-1", remedy=remedy), is_written
    ),
    NUMBERS,
    st.sampled_from(KINDS),
    TEXTS,
    st.none() | TEXTS,
    st.booleans(),
)


@given(st.lists(TAKEN | REFUSALS, max_size=20))
def test_answers_arrive_in_order_in_payloads_that_fit(answers: list[Answer]) -> None:
    texts = list(payloads(pack_reply(answer) for answer in answers))
    assert all(len(text) < 8_000 for text in texts)
    found = [answer for text in texts for answer in unpack_replies(text)]
    assert [one.token for one in found] == [one.token for one in answers]
    for sent, heard in zip(answers, found, strict=True):
        if isinstance(sent, Taken):
            assert isinstance(heard, Taken)
            is_large = sent.value is not None and len(sent.value) > 4_000
            assert (heard.value, heard.is_large) == (None if is_large else sent.value, is_large)
            assert (heard.outcome, heard.sequence_nr) == (sent.outcome, sent.sequence_nr)
        else:
            assert isinstance(heard, Refusal)
            assert type(heard.error) is type(sent.error)
            assert heard.is_written is sent.is_written
            assert heard.error.problem[:200] == sent.error.problem[:200]


class Private(errors.InvalidEffect):
    """A user's own kind of error."""


def test_an_error_arrives_as_the_nearest_kind_that_is_known() -> None:
    for error, kind in (
        (Private("mine"), errors.InvalidEffect),
        (errors.PublishFailed("some", [], remedy="again"), errors.SendError),
        (errors.RetryLater("later", after_s=1), errors.JobError),
        (errors.DefinitionError("no"), errors.DefinitionError),
    ):
        (found,) = unpack_replies(next(iter(payloads([pack_reply(Refusal(7, error))]))))
        assert isinstance(found, Refusal)
        assert type(found.error) is kind


def test_a_class_that_is_no_error_of_ours_is_never_made() -> None:
    import msgpack

    for name in ("SystemExit", "Any", "annotations", "PublishFailed", "__doc__", "Sequence"):
        packed = msgpack.packb((7, name, "problem", None, None, "", False))
        (found,) = unpack_replies(next(iter(payloads([packed]))))
        assert isinstance(found, Refusal)
        assert type(found.error) is errors.SendError


@given(st.text(alphabet=string.printable, max_size=200) | st.binary(max_size=200).map(repr))
def test_any_other_text_is_a_decode_error(text: str) -> None:
    with suppress(errors.DecodeError):
        unpack_replies(text)


@given(st.binary(max_size=100), st.booleans(), st.booleans())
def test_a_carried_message_comes_back(waiting: bytes, asks_again: bool, settles: bool) -> None:
    carried = Carried(waiting, asks_again, settles)
    assert unpack_carried(pack_carried(carried)) == carried


@given(st.binary(max_size=100), NUMBERS, st.booleans())
def test_a_job_comes_back(body: bytes, due_at_ms: int, is_named: bool) -> None:
    row = OutboxRow(
        "", 0, 0, OutboxKind.COMMAND, "work", "charge", 3, body, 17,
        given_id="job-1", context=b"c", due_at_ms=due_at_ms,
    )  # fmt: skip
    assert unpack_job_letter(pack_job_letter(row, is_named)) == (row, is_named)


@given(st.binary(max_size=100))
def test_a_body_of_anything_else_is_a_decode_error(body: bytes) -> None:
    codec = Codec(TypeRegistry(()))
    for unpack in (unpack_carried, unpack_job_letter, lambda body: unpack_errand(codec, body)):
        with pytest.raises(errors.DecodeError):
            unpack(body)


def test_an_errand_comes_back() -> None:
    codec = Codec(TypeRegistry(()))
    arguments = ["ann", None, True, 7, {"room": ["r-1"]}]
    assert unpack_errand(codec, pack_errand(codec, "repair", arguments)) == ("repair", arguments)
