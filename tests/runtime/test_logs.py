"""What the log says of instances, and that nobody's text can forge a line of it."""

from __future__ import annotations

import ast
import logging
from enum import Enum
from pathlib import Path

import pytest

from perdure import (
    NonRetryable,
    ProcessManager,
    Runtime,
    applies,
    continues,
    message,
    starts,
    stops,
)
from perdure.observer import ProcessStopped
from perdure.runtime.watching.logs import _LOGGERS, FIELDS, about, on_one_line
from tests.runtime.errands import Asked, Do, Errand, desk, errands, queue_of
from tests.runtime.flaky import begun, flaky, send
from tests.runtime.heard import Heard
from tests.runtime.support import open_ledger, quickly, reopened
from tests.runtime.test_ordered_sagas import Trip, World, saga_of
from tests.sagas import TRIED, Added, Closed, Ledger, Opened

FORMAT = (
    "%(levelname)s %(name)s [%(saga)s %(correlation_id)s %(message_id)s %(attempt)s] %(message)s"
)
HIDDEN = "\x1b[2K\x1b[1A"
"""Goes a line up and wipes it out."""

SOURCE = Path(__file__).parents[2] / "src" / "perdure"


@pytest.fixture(autouse=True)
def _nothing_tried():
    TRIED.clear()


@pytest.fixture
def lines(caplog):
    """What a formatter makes of the records of a logger, line by line."""
    caplog.set_level(logging.INFO, "perdure.transitions")

    def lines(name):
        formatter = logging.Formatter(FORMAT)
        records = [record for record in caplog.records if record.name == name]
        return "\n".join(formatter.format(record) for record in records).splitlines()

    return lines


def transitions(lines):
    return [line.partition("] ")[2] for line in lines("perdure.transitions")]


# Transitions


@quickly
async def test_a_change_of_status_is_logged_once_after_its_commit(store, clock, lines):
    async with Runtime(store, [Ledger], clock=clock) as runtime:
        ref = await open_ledger(runtime)
        await runtime.send(ref, Opened("x"), message_id="again")
        await runtime.send(ref, Added("x", 2))
    async with Runtime(reopened(store), [Ledger], clock=clock) as runtime:
        ref = runtime.ref(Ledger, "x")
        await runtime.send(ref, Opened("x"), message_id="again")
        await runtime.send(ref, Closed("x"), message_id="last")
    assert transitions(lines) == [
        "Ledger x: none -> open on runtime-test.opened",
        "Ledger x: open -> open (completed) on runtime-test.closed",
    ]
    assert lines("perdure.transitions")[1].startswith("INFO perdure.transitions [Ledger x last ]")


@quickly
async def test_nothing_is_logged_of_a_turn_that_is_not_durable(memory, lines):
    async with Runtime(memory, [Ledger]) as runtime:
        memory.fail_writes(times=3)
        with pytest.raises(Exception, match="could not be committed"):
            await open_ledger(runtime)
    assert transitions(lines) == []


class Light(Enum):
    RED = "red"
    GREEN = 2


@message(name="logs-test.Switched")
class Switched:
    id: str


@message(name="logs-test.Broken")
class Broken:
    id: str


def lamp_of(first, second):
    @message(name="logs-test.LampState")
    class LampState:
        status: Light = first

    class Lamps(ProcessManager[LampState]):
        name = "Lamp"

        @starts(Switched, by="id")
        def switched(self, state, event, do): ...

        @stops(Broken, by="id")
        def broken(self, state, event, do): ...

        @applies(Broken)
        def is_broken(self, state, event):
            return LampState(second)

    return Lamps


@quickly
async def test_an_enum_is_shown_by_its_text_or_its_name(memory, lines):
    saga = lamp_of(Light.RED, Light.GREEN)
    async with Runtime(memory, [saga]) as runtime:
        await runtime.publish(Switched("l"))
        await runtime.publish(Broken("l"))
    assert transitions(lines) == [
        "Lamp l: none -> red on logs-test.Switched",
        "Lamp l: red -> GREEN (completed) on logs-test.Broken",
    ]


@message(name="logs-test.Shy")
class Shy:
    @property
    def status(self):
        raise ValueError("not to be asked")


@quickly
async def test_a_status_that_cannot_be_read_harms_no_turn_and_no_observer(memory, lines):
    class Recluse(ProcessManager[Shy]):
        name = "Recluse"

        @starts(Switched, by="id")
        def switched(self, state, event, do): ...

        @stops(Broken, by="id")
        def broken(self, state, event, do): ...

    heard = Heard()
    async with Runtime(memory, [Recluse], observers=[heard]) as runtime:
        await runtime.publish(Switched("r"))
        await runtime.publish(Broken("r"))
    assert heard.one(ProcessStopped).status == "completed"
    assert len([line for line in lines("perdure.observers") if line.startswith("ERROR")]) == 1


@quickly
async def test_the_steps_of_an_ordered_saga(memory, lines):
    world = World(car=NonRetryable("no cars"))
    async with Runtime(memory, [saga_of("hotel", "car")], resources={"world": world}) as runtime:
        await runtime.publish(Trip("t"))
        await runtime.settled()
    of = "ordered-test.trip t:"
    assert transitions(lines) == [
        f"{of} step hotel has begun on ordered-test.Trip",
        f"{of} none -> running on ordered-test.Trip",
        f"{of} step hotel is done on perdure.StepCompleted",
        f"{of} step car has begun on perdure.StepCompleted",
        f"{of} step car has failed on perdure.CommandFailed",
        f"{of} step hotel is being undone on perdure.CommandFailed",
        f"{of} step hotel is undone on perdure.StepCompensated",
        f"{of} running -> failed on perdure.StepCompensated",
    ]


@quickly
async def test_a_logger_that_is_off_is_asked_and_no_more(memory, caplog, monkeypatch):
    monkeypatch.setattr("perdure.runtime.watching.announcing.log_transition", lambda *_: 1 / 0)
    async with Runtime(memory, [Ledger]) as runtime:
        await open_ledger(runtime)
    assert caplog.records == []


# Records about instances


@quickly
async def test_a_record_about_an_instance_says_which_message_and_which_attempt(
    memory, clock, lines
):
    async with flaky(memory, clock) as runtime:
        await send(runtime, await begun(runtime), 1, fails=1)
    line, *_ = [one for one in lines("perdure.saga") if "handling" in one]
    assert line.startswith("WARNING perdure.saga [Flaky x m-1 1] Flaky/x: handling")


@quickly
async def test_a_record_about_a_job_says_whose_it_is(lines):
    def fails(command, job):
        raise NonRetryable("no")

    async with errands(desk(do=fails), queue_of()) as runtime:
        await runtime.send(runtime.ref(Errand, "e"), Asked("e"))
        await runtime.enqueue(Do("f"), job_id="mine")
        await runtime.settled()
    saga = "runtime-test.errand"
    told = sorted(line.partition("] ")[0] for line in lines("perdure.workers"))
    assert told == [
        "ERROR perdure.workers [  mine 1",
        f"ERROR perdure.workers [{saga} e {saga}/e/1/0 1",
    ]


# Hostile text

FORGED = "x\nERROR perdure.saga all is lost\x1b[2J\u202egnp"


@quickly
async def test_no_text_forges_a_line(memory, clock, lines, caplog):
    def fails(command, job):
        raise NonRetryable(FORGED)

    async with errands(desk(do=fails), queue_of(), sagas=(Errand, Ledger)) as runtime:
        for saga, sent in ((Errand, Asked(FORGED)), (Ledger, Opened(FORGED))):
            await runtime.send(runtime.ref(saga, FORGED), sent, message_id=FORGED)
        await runtime.enqueue(Do(FORGED), job_id=FORGED)
        await runtime.settled()
    names = {record.name for record in caplog.records}
    assert names >= {"perdure.transitions", "perdure.workers"}
    written = [line for name in names for line in lines(name)]
    assert len(written) == len(caplog.records)
    assert all(line.isprintable() for line in written)
    assert r"x\nERROR perdure.saga all is lost\x1b[2J\u202egnp" in "\n".join(written)


@quickly
async def test_no_error_of_a_handler_forges_a_line_through_its_traceback(memory, lines):
    @message(name="logs-test.Lied")
    class Lied:
        id: str

    class Liar(ProcessManager[_State]):
        name = "Liar"

        @starts(Lied, by="id")
        def lied(self, state, event, do):
            raise ValueError(FORGED) from KeyError(FORGED)

        @continues(Switched, by="id")
        def plain(self, state, event, do):
            raise ValueError("plain")

    async with Runtime(memory, [Liar]) as runtime:
        with pytest.raises(Exception, match="x"):
            await runtime.publish(Lied("l"))
    written = lines("perdure.saga")
    assert all(line.isprintable() for line in written)
    own, *trace = written
    assert "Liar" in own
    assert all(line.startswith("    ") for line in trace)
    assert any("in lied" in line for line in trace)


@message(name="logs-test.State")
class _State:
    pass


def test_no_part_of_a_group_of_errors_forges_a_line(caplog):
    parts = [ValueError("plain"), ExceptionGroup("inner", [KeyError("x"), ValueError(HIDDEN)])]
    logging.getLogger("perdure.saga").error("it fails", exc_info=ExceptionGroup("outer", parts))
    assert "\x1b" not in logging.Formatter(FORMAT).format(caplog.records[-1])


def test_a_plain_traceback_stays_as_it_is(caplog):
    logger = logging.getLogger("perdure.saga")
    try:
        raise ValueError("plain")
    except ValueError:
        logger.exception("it failed")
    [record] = caplog.records
    assert "\nValueError: plain" in record.exc_text


@pytest.mark.parametrize(
    "text", ["", "o-1", "Ærø naïve 注文", "a\tb", "a\x00", "a\u2028b", "\ud800"]
)
def test_one_line_keeps_what_can_be_printed(text):
    shown = on_one_line(text)
    assert shown.isprintable()
    assert (shown == text) is text.isprintable()


def test_the_fields_of_a_record():
    assert tuple(about("Order/o/1", "m", 2).values()) == ("Order", "o/1", "m", 2)
    assert tuple(about("").values()) == ("", "", "", "")
    assert tuple(about("")) == FIELDS


def test_every_logger_of_ours_is_guarded_but_the_one_that_shows_stacks():
    named = {"perdure.watch"}
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or ast.unparse(node.func) != "logging.getLogger":
                continue
            if not node.args:
                continue  # the root, which is not ours
            module = ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts)
            name = ast.unparse(node.args[0])
            if path.name != "logs.py":
                named.add(module if name == "__name__" else ast.literal_eval(name))
    assert named - {"perdure.watch"} == set(_LOGGERS)
