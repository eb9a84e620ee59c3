"""Diagrams: what is in them, and that no name can break them.

Shapes and quoting were held against Mermaid's own parser (11), with names as wild as these.
"""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.describing import Kind, Queue, Saga, describe, diagram, markdown
from perdure.describing.description import Guard, Retry, Step, Taken, Told, Undo, WorkerOf
from perdure.describing.mermaid import escaped
from tests.describing.sagas import EVERYTHING, Order, hourly, letters, payments, stay, trip

LABEL = r'"(?:[^"`<>&;%\\#\n]|#\d+;)+"'
NODE = re.compile(
    rf"    n\d+(?:\[{LABEL}\]|\(\[{LABEL}\]\)|\(\({LABEL}\)\)|\{{\{{{LABEL}\}}\}}"
    rf"|\[\[{LABEL}\]\]|\[/{LABEL}/\])"
)
ARROW = re.compile(rf"    (n\d+) (?:-->|-\.->)(?:\|{LABEL}\|)? (n\d+)")


def assert_well_formed(text: str) -> None:
    first, *lines = text.splitlines()
    assert first in {"flowchart LR", "flowchart TD"}
    known = set()
    for line in lines:
        if NODE.fullmatch(line):
            known.add(line.split("[")[0].split("(")[0].split("{")[0].strip())
        else:
            arrow = ARROW.fullmatch(line)
            assert arrow, line
            assert set(arrow.groups()) <= known


def arrows(text: str) -> set[tuple[str, str, str]]:
    """From label to label, and what is said of it."""
    labels = dict(re.findall(r'^    (n\d+)\W+?"(.*)"\W+$', text, re.MULTILINE))
    found = re.findall(r'^    (n\d+) -\S*>(?:\|"(.*)"\|)? (n\d+)$', text, re.MULTILINE)
    return {(labels[start], said, labels[end]) for start, said, end in found}


def test_messages_deadlines_and_failures_lead_to_a_process_manager():
    found = describe([Order, payments])
    text = diagram(found.sagas[0], found.queues)
    assert_well_formed(text)
    saga = "described-order"
    charging = "charge performs described.charge (queue payments)"
    assert arrows(text) == {
        ("described.placed", "starts, by order_id, in new", saga),
        (
            "described.paid",
            "continues, by (region, order_id), in new or open#59; if is_large()#59; otherwise",
            saga,
        ),
        ("described.dropped", "stops, by the correlation id", saga),
        ("shop.reminded", "continues, by a function", saga),
        (saga, "after described.dropped", "completed"),
        ("deadline pick", "in paid", saga),
        ("timeout: 1 h 30 min", "", saga),
        ("child kyc ended", "", saga),
        ("cancelled", "", saga),
        ("described.ship has failed", "", saga),
        ("described.charge has failed", "compensated", saga),
        (charging, "", "described.paid"),
        (charging, "", "described.charge has failed"),
    }


def test_steps_follow_each_other_beside_what_undoes_them():
    text = diagram(describe([trip]).sagas[0])
    assert_well_formed(text)
    assert arrows(text) == {
        ("described.trip", "starts, by trip_id", "book_hotel, within 1 h"),
        ("book_hotel, within 1 h", "undone by", "cancel_hotel"),
        ("book_hotel, within 1 h", "", "ask_train"),
        ("book_hotel, within 1 h", "", "ask_bus"),
        ("ask_train", "", "pay (pivot: no way back)"),
        ("ask_bus", "", "pay (pivot: no way back)"),
        ("pay (pivot: no way back)", "", "thank"),
        ("thank", "", "completed"),
        ("timeout: 2 h", "", "what is done is undone unless past the pivot"),
    }


def test_a_list_fails_by_its_timeout_and_a_coroutine_has_no_course():
    assert ("timeout: 1 d", "", "failed") in arrows(diagram(describe([letters]).sagas[0]))
    body = "described-stay: its course is its code"
    assert arrows(diagram(describe([stay]).sagas[0])) == {
        ("described.trip", "starts, by trip_id", body),
        ("described.paid", "may be awaited, by order_id", body),
        (body, "may perform", "greet, within 5 min"),
    }


def test_a_schedule_leads_to_what_its_function_returns():
    assert arrows(diagram(describe([hourly]).sagas[0])) == {
        ("every 1:00:00 from 0:00:00", "", "described-hourly"),
        ("described-hourly", "", "what a function returns"),
    }


def test_markdown_has_a_heading_and_a_block_for_each():
    found = describe(EVERYTHING)
    text = markdown(found)
    assert re.findall(r"^### (.*)$", text, re.MULTILINE) == [one.name for one in found.sagas]
    blocks = re.findall(r"^```mermaid\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    assert blocks == [diagram(one, found.queues) for one in found.sagas]
    for block in blocks:
        assert_well_formed(block)


wild = st.one_of(
    st.text(max_size=12),
    st.sampled_from(["end", '"]', "a-->b", "%%{init: {}}%%", "```", "1. a", "- a", "<b>", "$$x$$"]),
)
guards = st.lists(
    st.one_of(st.builds(Guard, st.tuples(wild, wild)), st.builds(Guard, st.just(()), wild)),
    max_size=2,
).map(tuple)


@given(wild, wild, wild, wild, guards)
def test_no_name_breaks_a_diagram(name, message, failing, by, guarded):
    taken = tuple(Taken(message, role, by, guarded) for role in ("starts", "stops", ""))
    step = Step(name=name, about="", queue="", after=(), retry=Retry(1, ""), lease_s=1)
    undo = Undo(failing, "", Retry(1, ""))
    undone = Step(
        name=message, about="", queue="", after=(name,), retry=Retry(1, ""), lease_s=1, undo=undo
    )
    steps = (step, undone) if name != message else (step,)
    worker = WorkerOf(name=by, about="", takes=(failing,), returns=(message,), is_subscriber=False)
    queue = Queue(name=name, workers=(worker,), concurrency=1, retry=Retry(1, ""), lease_s=1)
    for kind in Kind:
        saga = Saga(
            name=name,
            kind=kind,
            messages=taken,
            steps=steps,
            deadlines=(Told(by, guarded), Told(name)),
            failures=(Told(""), Told(failing, guarded)),
            compensates=(failing,),
            children=(Told(message), Told("")),
            timeout_s=60,
            timing=by,
            calls=failing,
        )
        assert_well_formed(diagram(saga, [queue]))


@pytest.mark.parametrize("name", ['"', "`", "#", ";", "<", ">", "&", "%", "\\", "\n", "\x1b", "$"])
def test_what_mermaid_would_read_is_written_as_an_entity(name):
    assert re.fullmatch(r"a(#\d+;| )b", escaped(f"a{name}b"))


def test_letters_of_all_languages_stay_as_they_are():
    assert escaped("注文 für Ärzte") == "注文 für Ärzte"
