"""Functions as steps: what is said of them, what is refused at once, the queue each of them is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from functools import partial, wraps
from typing import Any

import pytest

from perdure import Exponential, Fixed, Job, message, step
from perdure.core.step_events import PerformStep, StepCompleted
from perdure.errors import DefinitionError
from perdure.queue import WorkQueue
from perdure.step_results import completed, given
from perdure.steps import StepSpec, spec_of, step_queue


@message(name="steps-test.document")
class Document:
    document_id: str
    text: str = ""


def upload(document: Document) -> None: ...


def test_without_a_word_a_step_is_named_after_its_function():
    assert spec_of(upload) == StepSpec("upload", upload)


def test_what_is_said_last_counts_and_the_rest_stays():
    @step(name="read", deadline=timedelta(hours=4), retry=Fixed(30), concurrency=2)
    def extract(document: Document) -> None: ...

    assert spec_of(extract) == StepSpec(
        "read", extract, timedelta(hours=4), {"retry": Fixed(30), "concurrency": 2}
    )
    assert spec_of(
        extract,
        name="ocr",
        deadline=timedelta(1),
        options={"concurrency": 1},
        defaults={"retry": Exponential(), "lease_s": 5.0},
    ) == StepSpec(
        "ocr", extract, timedelta(1), {"lease_s": 5.0, "retry": Fixed(30), "concurrency": 1}
    )


def test_a_marked_function_stays_the_one_it_is():
    @step
    def plain(document: Document) -> dict[str, str]:
        return {"text": document.document_id}

    assert plain(Document("d")) == {"text": "d"}


def test_what_is_wrapped_around_a_marked_function_is_the_step():
    @step(name="read")
    def extract(document: Document) -> None: ...

    @wraps(extract)
    def traced(document: Document) -> None: ...

    assert spec_of(traced) == StepSpec("read", traced)


def later() -> Any:
    yield


REFUSED: list[tuple[str, Callable[[], Any]]] = [
    ("is no function", lambda: spec_of(Document)),
    ("is no function", lambda: spec_of("upload")),
    ("is no function", lambda: spec_of(partial(upload))),
    ("is no name for a step", lambda: spec_of(lambda document: None)),
    ("is no name for a step", lambda: spec_of(upload, name="two words")),
    ("is no name for a step", lambda: spec_of(upload, name="a.b")),
    ("is no name for a step", lambda: spec_of(upload, name="")),
    ("is no name for a step", lambda: spec_of(upload, name="x" * 81)),
    ("is no name for a step", lambda: spec_of(upload, name=7)),  # type: ignore[arg-type]
    ("'undo' is no name for a step", lambda: spec_of(upload, name="undo")),
    ("has the deadline", lambda: spec_of(upload, deadline=timedelta(0))),
    ("has the deadline 5", lambda: spec_of(upload, deadline=5)),  # type: ignore[arg-type]
    ("step 'upload' has the option 'retries'", lambda: spec_of(upload, options={"retries": 3})),
    ("step 'upload' has the option 'name'", lambda: spec_of(upload, options={"name": "x"})),
    ("step 'upload': concurrency is 0", lambda: spec_of(upload, options={"concurrency": 0})),
    ("step 'upload': retry is 3", lambda: spec_of(upload, options={"retry": 3})),
    ("step 'later': it yields", lambda: spec_of(later)),
    ("belongs to its object", lambda: step(Reader().read)),
]


class Reader:
    def read(self, document: Document) -> None: ...


@pytest.mark.parametrize(("problem", "declare"), REFUSED)
def test_what_cannot_be_a_step_is_refused_where_it_is_declared(problem, declare):
    with pytest.raises(DefinitionError) as raised:
        declare()
    assert problem in raised.value.problem
    assert raised.value.remedy


def test_a_function_that_takes_no_data_is_refused_where_it_is_declared():
    with pytest.raises(DefinitionError, match="step 'nothing': it has no first parameter"):

        @step
        def nothing() -> None: ...

    with pytest.raises(DefinitionError, match="cannot be given by its name"):

        @step
        def any_(document: Document, *others: Any) -> None: ...


def test_a_bound_method_may_be_a_step():
    reader = Reader()
    assert spec_of(reader.read) == StepSpec("read", reader.read)


def queue_of(function: Callable[..., Any], **options: Any) -> WorkQueue:
    return step_queue(
        "documents.read",
        function,
        PerformStep,
        given("documents", "read", Document),
        completed,
        **options,
    )


COMMAND = PerformStep("read", "documents/d/read", Document("d"), True)


def perform(queue: WorkQueue, job: Job, **resources: Any) -> Any:
    worker = queue.workers[PerformStep]
    assert worker.job_parameter is not None
    found = worker.function(COMMAND, **{worker.job_parameter: job}, **resources)
    return asyncio.run(found) if worker.is_async else found


def test_the_worker_gives_the_function_its_data_the_job_and_resources():
    seen: list[Any] = []

    def read(document: Document, task: Job, reader: str, *, page: int = 1) -> dict[str, str]:
        seen.extend([document, task.key, reader, page])
        return {"text": "…"}

    queue = queue_of(read, retry=Fixed(1), lease_s=5)
    assert perform(queue, Job(key="other"), reader="r") == StepCompleted("read", Document("d", "…"))
    assert seen == [Document("d"), "documents/d/read", "r", 1], "the key is the step's"
    worker = queue.workers[PerformStep]
    assert (worker.required, worker.optional) == (("reader",), ("page",))
    assert (queue.name, queue.policy.lease_s) == ("documents.read", 5)


def test_a_function_need_not_ask_for_the_job_and_may_be_a_coroutine():
    async def read(document: Document) -> None: ...

    assert perform(queue_of(read), Job()) == StepCompleted("read")


def test_a_coroutine_that_nobody_awaits_is_found():
    async def really(document: Document) -> None: ...

    def read(document: Document) -> Any:
        return really(document)

    with pytest.raises(DefinitionError, match=r"step documents\.read returned a coroutine"):
        perform(queue_of(read), Job())
