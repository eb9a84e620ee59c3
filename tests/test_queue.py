"""Work queues as they are declared: what a signature says, and what is refused at once."""

from __future__ import annotations

import functools
import threading
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import pytest

from perdure.core.commit import OutboxKind
from perdure.core.queue_policy import Rate
from perdure.core.retry import Exponential, Fixed
from perdure.errors import DefinitionError, DuplicateWorker, InvalidResult, LeaseLost
from perdure.job import Job, Output
from perdure.messages import AnyMessage, ExternalEvent, message
from perdure.queue import Worker, WorkQueue

if TYPE_CHECKING:
    from somewhere import Gateway, Unknown  # type: ignore[import-not-found]

T = TypeVar("T")


@message(name="queue-test.process-payment")
class ProcessPayment:
    order_id: str


@message(name="queue-test.refund-payment")
class RefundPayment:
    order_id: str


@message(name="queue-test.payment-received")
class PaymentReceived:
    order_id: str


@message(name="queue-test.order-completed")
class OrderCompleted:
    order_id: str


class Unmarked:
    """No message."""


class CardDeclined(Exception):
    """A refusal that is final."""


Either = ProcessPayment | RefundPayment


def queue(name: str = "payments", **options: Any) -> WorkQueue:
    return WorkQueue(name, **options)


def only(payments: WorkQueue) -> Worker:
    (worker,) = set(payments.workers.values())
    return worker


def test_a_worker_is_what_its_signature_says() -> None:
    payments = queue()

    @payments.worker
    async def charge(
        command: ProcessPayment, job: Job, gateway: Gateway, *, currency: str = "EUR"
    ) -> PaymentReceived | None:
        """Charge the card.

        With the idempotency key of the job.
        """
        return None

    assert only(payments) == Worker(
        function=charge,
        kind=OutboxKind.COMMAND,
        types=(ProcessPayment,),
        is_async=True,
        job_parameter="job",
        required=("gateway",),
        optional=("currency",),
        returns=(PaymentReceived, type(None)),
        name="charge",
        description="Charge the card.",
    )


def test_a_worker_stays_the_function_it_is() -> None:
    payments = queue()

    @payments.worker
    def charge(command: ProcessPayment, job: Job) -> PaymentReceived:
        job.emit(OrderCompleted(command.order_id))
        return PaymentReceived(job.key)

    job = Job(key="k-1")
    assert charge(ProcessPayment("o-1"), job) == PaymentReceived("k-1")
    assert job.emitted == [OrderCompleted("o-1")]
    assert not only(payments).is_async
    assert only(payments).description == ""


def test_a_subscriber_takes_events() -> None:
    audit = queue("audit")

    @audit.subscriber
    def record(event: OrderCompleted) -> None: ...

    @audit.subscriber(events=[PaymentReceived])
    def note(event): ...

    @audit.worker
    def charge(command: ProcessPayment): ...

    assert {kind: one.name for kind, one in audit.events.items()} == {
        OrderCompleted: "record",
        PaymentReceived: "note",
    }
    assert list(audit.commands) == [ProcessPayment]
    assert audit.workers[OrderCompleted].returns == (type(None),)
    assert audit.workers[OrderCompleted].kind is OutboxKind.EVENT


@pytest.mark.parametrize("annotation", [Either, "Either", "ProcessPayment | RefundPayment"])
def test_a_union_means_several_classes(annotation: Any) -> None:
    payments = queue()

    def work(command): ...

    work.__annotations__["command"] = annotation
    payments.worker(work)
    assert list(payments.workers) == [ProcessPayment, RefundPayment]
    assert only(payments).types == (ProcessPayment, RefundPayment)


def test_classes_given_outright_need_no_annotation() -> None:
    payments = queue()

    @payments.worker(commands=[ProcessPayment, RefundPayment, ProcessPayment])
    def work(command, gateway): ...

    assert only(payments).types == (ProcessPayment, RefundPayment)
    assert only(payments).required == ("gateway",)

    @queue().worker(commands=(ProcessPayment,))
    def other(command: Unknown) -> None: ...

    @queue().worker()
    def third(command: ProcessPayment) -> None: ...


def test_names_of_the_function_around_it_are_found() -> None:
    @message(name="queue-test.local")
    class Local:
        number: int

    payments = queue()

    @payments.worker
    def first(command: Local) -> Local: ...  # type: ignore[empty-body]

    assert only(payments).types == only(payments).returns == (Local,)
    audit = queue()

    @audit.subscriber()
    def second(event: Local) -> None: ...

    assert list(audit.workers) == [Local]


def test_methods_and_wrapped_functions_are_workers_too() -> None:
    class Service:
        async def charge(self, command: ProcessPayment, job: Job) -> None: ...

    payments = queue()
    payments.worker(Service().charge)
    assert only(payments).is_async
    assert only(payments).name == "Service.charge"
    assert only(payments).types == (ProcessPayment,)

    def inner(command: ProcessPayment, gateway: Any) -> None: ...

    @functools.wraps(inner)
    def outer(*args: Any, **given: Any) -> None:
        inner(*args, **given)

    wrapped = queue()
    wrapped.worker(outer)
    assert only(wrapped).required == ("gateway",)

    elsewhere: dict[str, Any] = {"Elsewhere": ProcessPayment}
    exec("def inner(command: 'Elsewhere'): ...", elsewhere)

    @functools.wraps(elsewhere["inner"])
    def from_elsewhere(*args: Any) -> None: ...

    foreign = queue()
    foreign.worker(from_elsewhere)
    assert list(foreign.workers) == [ProcessPayment]


@pytest.mark.parametrize("name", ["job", "lease"])
def test_the_job_is_known_by_its_name_or_annotation(name: str) -> None:
    payments = queue()
    if name == "job":

        @payments.worker
        def named(command: ProcessPayment, other: int, job) -> None: ...

    else:

        @payments.worker
        def annotated(command: ProcessPayment, other: int, lease: Job | None = None) -> None: ...

    assert only(payments).job_parameter == name
    assert only(payments).required == ("other",)
    assert only(payments).optional == ()


def test_open_return_annotations_are_not_checked() -> None:
    def missing(command: ProcessPayment): ...
    def anything(command: ProcessPayment) -> Any: ...
    def thing(command: ProcessPayment) -> object: ...
    def variable(command: ProcessPayment) -> T: ...  # type: ignore[empty-body, type-var]
    def any_message(command: ProcessPayment) -> AnyMessage | None: ...

    for function in (missing, anything, thing, variable, any_message):
        payments = queue()
        payments.worker(function)
        assert only(payments).returns is None


def test_closed_return_annotations_are_its_classes() -> None:
    def never(command: ProcessPayment) -> NoReturn:
        raise CardDeclined

    def external(command: ProcessPayment) -> ExternalEvent | PaymentReceived: ...  # type: ignore[empty-body]

    expected = {never: (type(None),), external: (ExternalEvent, PaymentReceived)}
    for function, classes in expected.items():
        payments = queue()
        payments.worker(function)
        assert only(payments).returns == classes


# Wrong ones: each refused where it is declared.


class Shop:
    def ship(self, command: ProcessPayment) -> None: ...
    def charge(self, command: ProcessPayment) -> Any:
        return self


def no_parameter() -> None: ...
def no_annotation(command, job: Job) -> None: ...
def keyword_only(*, command: ProcessPayment) -> None: ...
def star(*commands: ProcessPayment) -> None: ...
def several(command: ProcessPayment, *others: Any) -> None: ...
def anything_else(command: ProcessPayment, **others: Any) -> None: ...
def positional(command: ProcessPayment, gateway: Any, /) -> None: ...
def two_jobs(command: ProcessPayment, job: Any, other: Job) -> None: ...
def no_message(command: Unmarked) -> None: ...
def text(command: str) -> None: ...
def half(command: ProcessPayment | int) -> None: ...
def maybe(command: ProcessPayment | None) -> None: ...
def swapped(job: Job, command: ProcessPayment) -> None: ...
def any_command(command: Any) -> None: ...
def listed(command: list[ProcessPayment]) -> None: ...
def unresolved(command: Unknown) -> None: ...
def unresolved_return(command: ProcessPayment) -> Unknown: ...
def number(command: ProcessPayment) -> int: ...  # type: ignore[empty-body]
def maybe_text(command: ProcessPayment) -> str | None: ...
def unmarked(command: ProcessPayment) -> Unmarked: ...  # type: ignore[empty-body]
def several_results(command: ProcessPayment) -> list[PaymentReceived]: ...  # type: ignore[empty-body]


def generator(command: ProcessPayment) -> Iterator[PaymentReceived]:
    yield PaymentReceived(command.order_id)


async def async_generator(command: ProcessPayment) -> AsyncIterator[PaymentReceived]:
    yield PaymentReceived(command.order_id)


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (no_parameter, "no first parameter for the command; as def no_parameter"),
        (no_annotation, r"'command' has no annotation; .* give commands=\[...\]"),
        (keyword_only, "no first parameter for the command"),
        (star, "no first parameter for the command"),
        (several, r"the parameter \*others: .* cannot be given by its name"),
        (anything_else, r"the parameter \*\*others: .* cannot be given by its name"),
        (positional, r"the parameter gateway: .* cannot be given by its name"),
        (two_jobs, "job and other both stand for the job"),
        (no_message, "Unmarked is no message class; mark the command's class with @message"),
        (text, "str is no message class"),
        (half, "int is no message class"),
        (maybe, "NoneType is no message class; leave None out"),
        (swapped, r"Job is where the command is to be; put the command first, as \(command: "),
        (Shop.ship, r"first parameter is 'self'.*; .*declare the method .*queue.worker\(shop.ship"),
        (any_command, "Any is no message class"),
        (listed, r"list\[.*ProcessPayment\] is no message class"),
        (unresolved, r"annotation command: Unknown cannot be resolved .*commands=\[...\]"),
        (unresolved_return, "annotation return: Unknown cannot be resolved .*or leave it out"),
        (number, "it returns int, which is no message class"),
        (maybe_text, "it returns str, which is no message class"),
        (unmarked, "it returns Unmarked, which is no message class"),
        (several_results, r"it returns list\[.*\], which is no message class"),
        (generator, "it yields; return one message"),
        (async_generator, "it yields; return one message"),
        (Unmarked, "it is no function"),
        (functools.partial(no_annotation), "it is no function"),
        (None.__init__, "it is no function"),  # type: ignore[misc]
    ],
)
def test_a_worker_that_cannot_work_is_refused_by_name(function: Any, said: str) -> None:
    payments = queue()
    with pytest.raises(DefinitionError, match=said) as raised:
        payments.worker(function)
    name = getattr(function, "__qualname__", "functools.partial")
    assert name in str(raised.value)
    assert "queue 'payments'" in str(raised.value)
    assert raised.value.remedy is not None
    assert payments.workers == {}


def test_the_method_of_an_object_is_a_worker() -> None:
    payments, shop = queue(), Shop()
    payments.worker(shop.charge)
    worker = payments.workers[ProcessPayment]
    assert worker.function(ProcessPayment("o-1")) is shop
    assert (worker.name, worker.required) == ("Shop.charge", ())


@pytest.mark.parametrize(
    ("commands", "said"),
    [
        ([], "commands is empty"),
        (ProcessPayment, r"commands=<class .*; as commands=\[SomeMessage\]"),
        ("ProcessPayment", r"commands='ProcessPayment'"),
        (3, r"commands=3"),
        ([Unmarked], "Unmarked is no message class"),
        (["ProcessPayment"], "ProcessPayment is no message class"),
    ],
)
def test_classes_given_outright_are_checked(commands: Any, said: str) -> None:
    with pytest.raises(DefinitionError, match=said):
        queue().worker(commands=commands)(no_annotation)


def test_a_command_has_one_worker_in_a_queue() -> None:
    payments = queue()

    @payments.worker
    def first(command: ProcessPayment) -> None: ...

    with pytest.raises(DuplicateWorker, match=r"ProcessPayment .* queue 'payments': first and sec"):

        @payments.worker
        def second(command: RefundPayment | ProcessPayment) -> None: ...

    with pytest.raises(DuplicateWorker):
        payments.subscriber(first)
    assert list(payments.workers) == [ProcessPayment]


@pytest.mark.parametrize(
    "name", ["", "a b", "ä", "a/b", "x" * 201, "new\n", None, 3, "perdure.x", b"bytes"]
)
def test_a_bad_name_is_refused(name: Any) -> None:
    with pytest.raises(DefinitionError, match="work queue"):
        WorkQueue(name)


def test_good_names_are_taken() -> None:
    for name in ("a", "x" * 200, "charge-card.v2_EU", "perdure"):
        assert WorkQueue(name).name == name
    assert repr(queue()) == "<WorkQueue payments>"


def test_the_defaults_are_stated() -> None:
    policy = queue().policy
    assert (policy.name, policy.concurrency, policy.lease_s) == ("payments", 10, 60)
    assert policy.retry == Exponential()
    assert (policy.rate, policy.sequential, policy.pause_after) == (None, False, None)
    assert queue(sequential=True).policy.concurrency == 1
    assert queue(sequential=True, concurrency=1).policy.sequential
    assert queue(retry=Fixed(3), rate=Rate(3)).policy.retry == Fixed(3)
    assert queue(non_retryable=(CardDeclined, OSError)).non_retryable == (CardDeclined, OSError)


@pytest.mark.parametrize(
    "options",
    [
        {"concurrency": 0},
        {"concurrency": -1},
        {"concurrency": "8"},
        {"lease_s": -1},
        {"lease_s": float("nan")},
        {"pause_after": 0},
        {"retry": "always"},
        {"rate": 3},
        {"sequential": "yes"},
        {"sequential": True, "concurrency": 2},
        {"non_retryable": CardDeclined},
        {"non_retryable": [CardDeclined]},
        {"non_retryable": ("CardDeclined",)},
        {"non_retryable": (int,)},
        {"non_retryable": (CardDeclined(),)},
        {"non_retryable": (KeyboardInterrupt,)},
    ],
)
def test_nonsense_is_refused_with_the_name_of_the_queue(options: dict[str, Any]) -> None:
    with pytest.raises(DefinitionError, match=r"^work queue 'payments': ") as raised:
        queue(**options)
    assert raised.value.remedy is not None


class TestJob:
    def test_a_test_needs_no_arguments(self) -> None:
        job = Job()
        assert (job.key, job.attempt, job.max_attempts) == ("", 1, None)
        assert job.enqueued_at.tzinfo is UTC
        job.heartbeat()
        job.extend(5)
        assert not job.is_cancelled

    def test_it_tells_what_it_was_told(self) -> None:
        at = datetime(2024, 1, 1, tzinfo=UTC)
        job = Job(
            key="k", attempt=2, max_attempts=5, queue="payments", saga="Order", instance_id="o-1",
            correlation_id="cart-7", causation_id="m-1", headers={"a": "b"}, enqueued_at=at,
        )  # fmt: skip
        assert (job.key, job.attempt, job.max_attempts, job.queue) == ("k", 2, 5, "payments")
        assert (job.saga, job.instance_id) == ("Order", "o-1")
        assert (job.correlation_id, job.causation_id) == ("cart-7", "m-1")
        assert (job.headers, job.enqueued_at) == ({"a": "b"}, at)

    def test_what_is_handed_out_is_kept_in_order(self) -> None:
        job = Job()
        job.emit(OrderCompleted("o-1"))
        job.send(RefundPayment("o-1"), queue="refunds", anyway=True)
        job.emit(ExternalEvent("x", {}), anyway=True)
        assert job.emitted == [OrderCompleted("o-1"), ExternalEvent("x", {})]
        assert job.sent == [RefundPayment("o-1")]
        assert job.outputs == [
            Output(OutboxKind.EVENT, OrderCompleted("o-1"), None, False),
            Output(OutboxKind.COMMAND, RefundPayment("o-1"), "refunds", True),
            Output(OutboxKind.EVENT, ExternalEvent("x", {}), None, True),
        ]

    @pytest.mark.parametrize("what", [None, "text", {}, OrderCompleted, Unmarked()])
    def test_what_is_no_message_is_refused_where_it_is_handed_out(self, what: Any) -> None:
        job = Job(queue="payments")
        with pytest.raises(InvalidResult, match=r"queue 'payments' emitted .* no message"):
            job.emit(what)
        with pytest.raises(InvalidResult, match=r"queue 'payments' sent .* no message"):
            job.send(what)
        assert job.outputs == []

    def test_the_lease_runs_anew(self) -> None:
        asked: list[float] = []
        job = Job(lease_s=30, extend=asked.append)
        job.heartbeat()
        job.extend(90)
        assert asked == [30, 90]
        for seconds in (0, -1, float("nan"), True, "5"):
            with pytest.raises(DefinitionError, match=r"seconds of job\.extend is"):
                job.extend(seconds)  # type: ignore[arg-type]
        assert asked == [30, 90]

    def test_a_job_that_was_taken_away_hands_out_nothing_more(self) -> None:
        asked: list[float] = []
        job = Job(key="k-1", queue="payments", extend=asked.append)
        job.emit(OrderCompleted("o-1"))
        job.take_away("it was cancelled")
        assert job.is_cancelled
        for verb in (
            job.heartbeat,
            lambda: job.extend(1),
            lambda: job.emit(OrderCompleted("o-2"), anyway=True),
            lambda: job.send(RefundPayment("o-2")),
        ):
            with pytest.raises(LeaseLost, match=r"'k-1' of queue 'payments' .*: it was cancelled"):
                verb()
        assert job.emitted == [OrderCompleted("o-1")]
        assert asked == []

    def test_any_thread_may_use_it(self) -> None:
        job = Job()

        def hand_out() -> None:
            for n in range(500):
                job.emit(OrderCompleted(str(n)))

        threads = [threading.Thread(target=hand_out) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(job.emitted) == 2_000
