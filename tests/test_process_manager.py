"""The face a user writes: decorators fill tables, tables feed callbacks; mistakes are found."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from perdure import (
    CORRELATION_ID,
    Continue,
    DeadlineReached,
    ExternalEvent,
    Fail,
    Fixed,
    Ignore,
    Metadata,
    Park,
    ProcessManager,
    Send,
    Start,
    Stop,
    TimeoutReached,
    applies,
    compensates,
    continues,
    message,
    on_command_failed,
    on_deadline,
    on_timeout,
    starts,
    stops,
)
from perdure.errors import (
    CorrelationFailed,
    DefinitionError,
    DuplicateHandler,
    NotAPlainFunction,
)
from perdure.process_manager import define

AT = datetime(2026, 1, 1, tzinfo=UTC)


@message(name="face-test.TransferRequested")
class TransferRequested:
    source: str
    target: str
    cents: int


@message(name="face-test.Debited")
class Debited:
    source: str
    target: str


@message(name="face-test.Cancelled")
class Cancelled:
    source: str
    target: str


@message(name="face-test.Debit")
class Debit:
    account: str


@message(name="face-test.Refund")
class Refund:
    account: str


@dataclass(frozen=True)
class TransferState:
    source: str = ""
    status: str = "new"


class Transfer(ProcessManager[TransferState]):
    @starts(TransferRequested, by=("source", "target"))
    def requested(self, state, event, do):
        do.send(Debit(event.source))

    @continues(Debited, by=("source", "target"), when="requested")
    def debited(self, state, event, do):
        return [Send(Refund("first"))]

    @continues(Debited, by=("source", "target"), when=("done", "checked"))
    def debited_again(self, state, event, do):
        do.send(Refund("second"))

    @stops(Cancelled, by=("source", "target"), strict=True)
    def cancelled(self, state, event, do):
        pass

    @continues("bank.Settled", by="iban")
    def settled(self, state, event, do):
        do.send(Refund(event.data["iban"]))

    @on_deadline("slow")
    def slow(self, state, do):
        do.send(Refund("slow"))

    @applies(TransferRequested)
    def apply_requested(self, state, event):
        return replace(state, source=event.source, status="requested")

    @applies(Debited)
    def apply_debited(self, state, event, metadata):
        return replace(state, status="done")

    @compensates(Debit)
    def undo(self, state, failed):
        return [Refund(failed.account)]


requested = TransferRequested("a", "b", 100)
debited = Debited("a", "b")
metadata = Metadata("m-1", correlation_id="conversation-9")


def test_the_plain_callbacks_work_on_plain_objects():
    saga: Any = Transfer()
    assert list(saga.interested_in()) == [TransferRequested, Debited, Cancelled, "bank.Settled"]
    assert saga.correlate(requested, metadata) == Start(("a", "b"))
    assert saga.correlate(debited, metadata) == Continue(("a", "b"))
    assert saga.correlate(Cancelled("a", "b"), metadata) == Stop(("a", "b"), strict=True)
    assert saga.correlate(ExternalEvent("bank.Settled", {"iban": 7}), metadata) == Continue(7)
    assert saga.correlate(Debit("a"), metadata) is Ignore
    first = saga.apply(saga.initial_state(), requested)
    assert first == TransferState("a", "requested")
    assert list(saga.handle(first, requested, metadata)) == [Send(Debit("a"))]
    assert list(saga.compensate(first, Debit("x"))) == [Refund("x")]
    assert saga.compensate(first, Refund("x")) is None


def test_a_whole_process_threads_its_state_through_events():
    saga: Any = Transfer()
    state, sent = TransferState(), []
    for event in (requested, debited, debited):
        handling = saga.choose(state, event, metadata)
        state = saga.apply(state, event, metadata)
        sent += [effect.command for effect in handling(state, event, metadata)]
    assert sent == [Debit("a"), Refund("first"), Refund("second")]


def test_guards_look_at_the_state_before_the_event():
    saga: Any = Transfer()
    assert not saga.accepts(TransferState(), debited, metadata)
    assert saga.accepts(TransferState(status="requested"), debited, metadata)
    assert saga.accepts(TransferState(status="checked"), debited, metadata)


def test_deadlines_reach_their_handler_and_others_are_not_wanted():
    saga: Any = Transfer()
    reached = DeadlineReached("slow", AT)
    assert list(saga.handle(TransferState(), reached, metadata)) == [Send(Refund("slow"))]
    assert not saga.accepts(TransferState(), DeadlineReached("other", AT), metadata)


def test_a_timeout_fails_the_process_unless_it_is_handled():
    assert list(Transfer().handle(TransferState(), TimeoutReached(AT), metadata) or ()) == [
        Fail("timed out")
    ]

    class Gentle(Transfer):
        @on_timeout
        def late(self, state, do):
            do.send(Refund("late"))

    handled: Any = Gentle().handle(TransferState(), TimeoutReached(AT), metadata)
    assert list(handled) == [Send(Refund("late"))]


def test_correlation_by_function_by_metadata_and_to_several():
    class Several(ProcessManager[TransferState]):
        @starts(TransferRequested, by=lambda event: [event.source, event.target])
        def both(self, state, event, do): ...

        @continues(Debited, by=CORRELATION_ID)
        def one(self, state, event, do): ...

        @continues(Cancelled, by=lambda event, metadata: metadata.message_id)
        def other(self, state, event, do): ...

    saga: Any = Several()
    assert saga.correlate(requested, metadata) == [Start("a"), Start("b")]
    assert saga.correlate(debited, metadata) == Continue("conversation-9")
    assert saga.correlate(Cancelled("a", "b"), metadata) == Continue("m-1")
    with pytest.raises(CorrelationFailed, match="without a correlation id"):
        saga.correlate(debited, Metadata("m-1"))


def test_an_outside_event_without_its_field_is_refused():
    with pytest.raises(CorrelationFailed, match="'iban'"):
        Transfer().correlate(ExternalEvent("bank.Settled", {}), metadata)


def test_a_saga_may_be_written_by_hand():
    class ByHand(ProcessManager[TransferState]):
        name = "by-hand"

        def interested_in(self):
            return [TransferRequested]

        def correlate(self, event, metadata):
            return Start(event.source)

        def apply(self, state, event):  # type: ignore[override]
            return replace(state, source=event.source)

        def handle(self, state, event, metadata):
            return [Send(Debit(state.source))]

        def timeout(self):  # type: ignore[override]
            return timedelta(minutes=15)

    definition = define(ByHand)
    assert definition.name == "by-hand"
    assert definition.interests == (TransferRequested,)
    assert definition.timeout == timedelta(minutes=15)
    assert definition.folds is None
    handling: Any = definition.choose(TransferState(), requested, metadata)
    assert handling(TransferState("a"), requested, metadata) == [Send(Debit("a"))]
    assert definition.apply(TransferState(), requested, metadata) == TransferState("a")


def test_inherited_declarations_can_be_extended_and_overridden():
    class Louder(Transfer):
        @starts(TransferRequested, by="source")
        def requested(self, state, event, do):
            do.send(Debit("louder"))

    saga: Any = Louder()
    assert saga.correlate(requested, metadata) == Start("a")
    assert list(saga.handle(TransferState(), requested, metadata)) == [Send(Debit("louder"))]
    assert saga.correlate(debited, metadata) == Continue(("a", "b"))


def test_a_state_that_cannot_change_is_not_copied():
    assert not define(Transfer).copies_state

    @dataclass(frozen=True)
    class Leaky:
        items: list[str] = field(default_factory=list)

    class Holder(ProcessManager[Leaky]): ...

    assert define(Holder).copies_state


# Mistakes


def test_one_method_name_declared_twice_is_an_error_at_definition():
    with pytest.raises(DuplicateHandler, match=r"'go' is declared twice"):

        class Twice(ProcessManager[TransferState]):
            @starts(TransferRequested, by="source")
            def go(self, state, event, do): ...

            @continues(Debited, by="source")  # type: ignore[no-redef]
            def go(self, state, event, do): ...  # noqa: F811


def test_two_handlers_for_one_event_need_a_guard():
    with pytest.raises(DuplicateHandler, match="second handler"):

        class Two(ProcessManager[TransferState]):
            @starts(TransferRequested, by="source")
            def one(self, state, event, do): ...

            @starts(TransferRequested, by="source")
            def two(self, state, event, do): ...


def test_an_event_cannot_both_start_and_continue():
    with pytest.raises(DuplicateHandler, match="both start and continue"):

        class Both(ProcessManager[TransferState]):
            @starts(TransferRequested, by="source", when="new")
            def one(self, state, event, do): ...

            @continues(TransferRequested, by="source")
            def two(self, state, event, do): ...


def test_handlers_of_one_event_correlate_alike():
    with pytest.raises(DuplicateHandler, match="correlated by 'source' and by 'target'"):

        class Two(ProcessManager[TransferState]):
            @starts(TransferRequested, by="source", when="new")
            def one(self, state, event, do): ...

            @starts(TransferRequested, by="target")
            def two(self, state, event, do): ...


def test_two_appliers_of_one_event_are_an_error():
    with pytest.raises(DuplicateHandler, match="second function"):

        class Two(ProcessManager[TransferState]):
            @applies(Debited)
            def one(self, state, event): ...

            @applies(Debited)
            def two(self, state, event): ...


def test_a_field_that_the_event_has_not_is_found_at_definition():
    with pytest.raises(DefinitionError, match=r"Missing\.go: Debited has no field 'order'"):

        class Missing(ProcessManager[TransferState]):
            @starts(Debited, by="order")
            def go(self, state, event, do): ...


def test_coroutines_are_refused_where_plain_functions_are_needed():
    with pytest.raises(NotAPlainFunction, match="go"):

        class Decorated(ProcessManager[TransferState]):
            @starts(Debited, by="source")
            async def go(self, state, event, do): ...

    class Plain(ProcessManager[TransferState]):
        async def handle(self, state, event, metadata): ...  # type: ignore[override]

    with pytest.raises(NotAPlainFunction, match=r"Plain\.handle"):
        define(Plain)


class Unmarked:
    id = "x"


@pytest.mark.parametrize(
    ("decorate", "said"),
    [
        (lambda: starts(by="id"), "@starts names no message"),
        (lambda: continues(by="id"), "@continues names no message"),
        (lambda: stops(by="id"), "@stops names no message"),
        (lambda: starts(Unmarked, by="id"), r"@starts\(Unmarked\): .* mark the class"),
        (lambda: starts(Debited("a", "b"), by="id"), r"is no message class"),  # type: ignore[arg-type]
        (lambda: starts("", by="id"), "'' is no message class"),
        (
            lambda: starts(ExternalEvent, by="id"),
            r"known by the name of its type .*; give that name",
        ),
    ],
)
def test_a_handler_that_would_never_be_called_is_refused_at_definition(decorate, said):
    with pytest.raises(DefinitionError, match=said) as caught:

        class Dead(ProcessManager[TransferState]):
            @decorate()
            def go(self, state, event, do): ...

    assert "Dead.go" in str(caught.value)


@pytest.mark.parametrize(
    ("decorate", "said"),
    [
        (applies, "@applies names no message"),
        (lambda: applies(Unmarked), r"@applies\(Unmarked\)"),
        (compensates, "@compensates names no message"),
        (lambda: compensates("debit"), r"@compensates\('debit'\)"),  # type: ignore[arg-type]
        (lambda: compensates(Unmarked), r"@compensates\(Unmarked\)"),
    ],
)
def test_so_is_what_would_never_fold_or_make_up_for_anything(decorate, said):
    with pytest.raises(DefinitionError, match=said):

        class Dead(ProcessManager[TransferState]):
            @decorate()
            def go(self, state, event): ...


def test_a_plain_dataclass_is_an_event_as_well():
    @dataclass(frozen=True)
    class Plain:
        id: str

    class Takes(ProcessManager[TransferState]):
        @starts(Plain, "process-manager-test.outside", by="id")
        def go(self, state, event, do): ...

    assert Plain in define(Takes).interests


def test_a_deadline_needs_a_name():
    with pytest.raises(DefinitionError, match="@on_deadline without a name"):
        on_deadline("")


def test_the_deadlines_that_a_saga_handles_are_known_unless_it_handles_by_hand():
    class Declared(ProcessManager[TransferState]):
        @on_deadline("payment")
        @on_deadline("pick", when="paid")
        def late(self, state, do): ...

    class ByHand(Declared):
        def handle(self, state, event, metadata): ...

    class Chooses(Declared):
        def choose(self, state, event, metadata): ...

    assert define(Declared).deadlines == {"payment", "pick"}
    assert define(ByHand).deadlines is define(Chooses).deadlines is None


def test_a_wrong_signature_is_found_at_definition():
    with pytest.raises(DefinitionError, match=r"\(self, state, event, do\)"):

        class Wrong(ProcessManager[TransferState]):
            @starts(Debited, by="source")
            def go(self, event): ...


@pytest.mark.parametrize("name", ["", "a/b", "1st", "ü", "x" * 201, None])
def test_a_saga_needs_a_storable_name(name):
    saga = type("Named", (Transfer,), {"name": name})
    with pytest.raises(DefinitionError, match="no name for a saga"):
        define(saga)


def test_a_state_needs_to_be_a_dataclass_with_defaults():
    class Stateless(ProcessManager): ...

    with pytest.raises(DefinitionError, match="does not say what its state is"):
        define(Stateless)

    class Text(ProcessManager[str]): ...

    with pytest.raises(DefinitionError, match="no dataclass"):
        define(Text)

    class Undefaulted(ProcessManager[Debit]): ...

    with pytest.raises(DefinitionError, match="no initial Debit"):
        define(Undefaulted)


@pytest.mark.parametrize("wrong", [timedelta(0), 15, "15 min"])
def test_a_timeout_is_a_duration(wrong):
    saga = type("Timed", (Transfer,), {"timeout": wrong})
    with pytest.raises(DefinitionError, match="timeout is"):
        define(saga)


@dataclass(frozen=True)
class Retried:
    status: str = "new"


@pytest.mark.parametrize(
    ("attribute", "value", "problem"),
    [
        ("retry", 3, "retry is 3"),
        ("retry", Fixed, "retry is"),
        ("timeout_retry", timedelta(1), "timeout_retry is"),
        ("timeout_retry", Fixed(1), "timeout_retry without a timeout"),
        ("lets_pass", 1, "lets_pass is 1"),
        ("on_missing", Park, "on_missing is .*Park.*its parentheses"),
        ("on_missing", "ignore", "on_missing is 'ignore'"),
        ("on_missing", None, r"on_missing is None.*Park\(for_s\)"),
    ],
)
def test_policies_must_be_policies(attribute, value, problem):
    class Retrying(ProcessManager[Retried]):
        pass

    setattr(Retrying, attribute, value)
    with pytest.raises(DefinitionError, match=problem) as caught:
        define(Retrying)
    assert caught.value.saga == "Retrying"


def test_what_is_declared_of_retries_and_compensation_reaches_the_kernel():
    class Retrying(ProcessManager[Retried]):
        retry = Fixed(3)
        lets_pass = True
        timeout = timedelta(seconds=1)
        timeout_retry = Fixed(2)

        @compensates(Debited, Cancelled)
        def undo(self, state, failed):
            return None

        @on_command_failed(TransferRequested)
        def failed(self, state, failure, do): ...

    definition = define(Retrying)
    assert (definition.retry, definition.timeout_retry) == (Fixed(3), Fixed(2))
    assert definition.lets_pass
    assert definition.compensated == (Debited, Cancelled)
    assert {Debited, Cancelled, TransferRequested} <= set(definition.types)


def test_a_timeout_with_retries_left_ends_nothing_yet():
    class Retrying(ProcessManager[Retried]):
        timeout = timedelta(seconds=1)
        timeout_retry = Fixed(2, max_attempts=2)

    class ByHand(Retrying):
        def handle(self, state, event, metadata):
            return None

    assert Retrying().handle(Retried(), TimeoutReached(AT), Metadata()) == []
    for saga in (Retrying, ByHand):
        for retries, effects in [(0, []), (1, [Fail("timed out after maximum retries")])]:
            event = TimeoutReached(AT, retries)
            handling = define(saga).choose(Retried(), event, Metadata())
            assert handling is not None
            assert handling(Retried(), event, Metadata()) == effects
