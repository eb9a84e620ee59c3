"""Workflows as they are declared: a list of steps, checked when it is made."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from perdure import Exponential, Fixed, Runtime, Workflow, message, step
from perdure.core.plan import PlannedStep
from perdure.errors import DefinitionError


@message(name="workflow-test.document")
class Document:
    document_id: str
    text: str = ""


def upload(document: Document) -> None: ...


@step(name="read", retry=Fixed(30, max_attempts=10), deadline=timedelta(hours=4))
def extract(document: Document) -> dict[str, str]:
    return {"text": document.document_id}


async def summarise(document: Document) -> None: ...


def workflow(*steps: Any, **options: Any) -> Workflow:
    return Workflow("documents", Document, **{"by": "document_id", "steps": steps, **options})


def test_steps_follow_each_other_in_the_order_of_the_list():
    documents = workflow(upload, extract, summarise)
    plan = documents.plan()
    assert plan.steps == (
        PlannedStep("upload", 0, "documents.upload"),
        PlannedStep("read", 1, "documents.read", ("upload",), deadline=timedelta(hours=4)),
        PlannedStep("summarise", 2, "documents.summarise", ("read",)),
    )
    assert plan.forward_only
    assert plan.is_sequential
    assert [(one.name, one.policy.retry) for one in documents.queues()] == [
        ("documents.upload", Exponential()),
        ("documents.read", Fixed(30, max_attempts=10)),
        ("documents.summarise", Exponential()),
    ]
    assert repr(documents) == "<Workflow documents>"
    assert (documents.name, list(documents.openings())) == ("documents", [])
    assert extract(Document("d")) == {"text": "d"}, "it stays the function it is"


def test_steps_may_come_from_anywhere():
    found = (one for one in [upload, extract])
    assert list(workflow(steps=found).plan().by_name) == ["upload", "read"]


class Unmarked:
    pass


REFUSED: list[tuple[str, Callable[[], Any]]] = [
    ("it has no steps", workflow),
    ("two steps are named 'upload'", lambda: workflow(upload, extract, upload)),
    ("steps is <function upload", lambda: workflow(steps=upload)),
    ("is no function", lambda: workflow(upload, "extract")),
    ("is no function", lambda: workflow(steps="upload")),
    ("is no name for a step", lambda: workflow(lambda document: None)),
    ("is no message class", lambda: Workflow("d", Unmarked, by="x", steps=[upload])),
    ("Document has no field 'id'", lambda: workflow(upload, by="id")),
    ("timeout is", lambda: workflow(upload, timeout=timedelta(-1))),
    ("is no name for a saga", lambda: Workflow("a b", Document, by="document_id", steps=[])),
]


@pytest.mark.parametrize(("problem", "declare"), REFUSED)
def test_what_cannot_work_is_refused_when_it_is_made(problem, declare):
    with pytest.raises(DefinitionError) as raised:
        declare()
    assert problem in raised.value.problem
    assert raised.value.saga
    assert raised.value.remedy


def test_a_workflow_and_a_saga_of_one_name_do_not_go_together():
    with pytest.raises(DefinitionError, match="two sagas are named 'documents'"):
        Runtime("memory://", [workflow(upload), workflow(extract)])


def test_hundreds_of_steps_are_no_burden():
    def named(number: int) -> Callable[[Document], None]:
        @step(name=f"s{number}")
        def perform(document: Document) -> None: ...

        return perform

    plan = workflow(*map(named, range(300))).plan()
    assert plan.is_sequential
