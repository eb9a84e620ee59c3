"""The examples, run as a reader would run them: as processes, killed ones among them.

They start warm (``warm.py``), with what they import imported already.

With PERDURE_DECLARATIONS_LOG and PERDURE_DECLARATIONS_GOLDEN set to an event log and the figures
expected of it (JSON), ``declarations.py`` is checked against them as well. The single parts of the
other examples are tested in ``examples/``.
"""

from __future__ import annotations

import doctest
import gzip
import hashlib
import importlib
import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests import warm

EXAMPLES = Path(__file__).parent.parent / "examples"
DECLARATIONS = EXAMPLES / "declarations.py"
ORDERS = EXAMPLES / "order_fulfilment.py"
TRANSFER = EXAMPLES / "money_transfer.py"
KILLED = EXAMPLES / "money_transfer_killed.py"
DOCUMENTS = EXAMPLES / "document_approval.py"
ONBOARDING = EXAMPLES / "onboarding.py"
TRAVEL = EXAMPLES / "travel_booking.py"
TRAVEL_KILLED = EXAMPLES / "travel_booking_killed.py"
PROCESSING = EXAMPLES / "order_processing.py"
LETTERS = EXAMPLES / "document_processing.py"
SAMPLE = EXAMPLES / "data" / "declarations_sample.xes"

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs signals")


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return warm.run(*command, cwd=EXAMPLES.parent, timeout_s=1_000)


def sqlite_url(path: Path) -> str:
    return f"sqlite+aiosqlite:///{path}"


def notices_in(path: Path) -> list[tuple[str, str]]:
    """(case, notice) of each line; no key is there twice, and no line is torn."""
    text = path.read_text()
    assert text.endswith("\n") or not text
    lines = [json.loads(line) for line in text.splitlines()]
    assert len({line["key"] for line in lines}) == len(lines)
    return [(line["case"], line["notice"]) for line in lines]


def assert_all_is_written_down(path: Path, figures: dict[str, Any]) -> None:
    """The notices are the commands that were sent: each of them, and each once."""
    commands, counts = [], Counter[tuple[str, str]]()
    for case, notice in notices_in(path):
        command = {"reminder": "SendReminder", "escalation": "Escalate"}[notice]
        counts[case, command] += 1
        commands.append(f"{case}|{command}|{counts[case, command]}")
    assert len(commands) == figures["reminders"] + figures["escalations"]
    assert sha256(commands) == figures["command_digest"]


def figures_of(*options: str | Path) -> Any:
    ended = run(DECLARATIONS, "--json", *options)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    return json.loads(ended.stdout)


# What the specification of declarations.py says, simulated in memory without the runtime


class Case:
    def __init__(self) -> None:
        self.status = "new"
        self.due: datetime | None = None
        self.reminded = 0
        self.counts: Counter[str] = Counter()


def events_of(log: Path) -> list[tuple[datetime, str, str]]:
    """(time, case, activity), with another parser than the example's."""
    found = []
    root = ElementTree.fromstring(log.read_bytes())
    for trace in root.iterfind("{*}trace"):
        case = trace.find("{*}string[@key='concept:name']")
        assert case is not None
        for event in trace.iterfind("{*}event"):
            keys = {child.get("key"): child.get("value") for child in event}
            at = datetime.fromisoformat(keys["time:timestamp"] or "").astimezone(UTC)
            found.append((at, case.get("value") or "", keys["concept:name"] or ""))
    return sorted(found, key=lambda event: event[0])


def fire_until(cases: dict[str, Case], at: datetime, commands: list[str]) -> None:
    """One deadline after another, the earliest first."""
    while True:
        due = [(case.due, name) for name, case in cases.items() if case.due and case.due <= at]
        if not due:
            return
        when, name = min(due)
        case = cases[name]
        command = "SendReminder" if case.reminded < 3 else "Escalate"
        case.due = when + timedelta(days=7) if case.reminded < 3 else None
        case.reminded += 1
        case.counts[command] += 1
        commands.append(f"{name}|{command}|{case.counts[command]}")


def status_of(activity: str) -> str | None:
    words = activity.split(" by ")[0].split(" ")
    known = {
        "SAVED": "saved",
        "SUBMITTED": "submitted",
        "APPROVED": "in_approval",
        "FINAL_APPROVED": "final_approved",
        "REJECTED": "rejected",
    }
    if " by " in activity and words[-1] in known:
        return known[words[-1]]
    return {"Request Payment": "payment_requested", "Payment Handled": "paid"}.get(activity)


def simulate(log: Path) -> dict[str, Any]:
    cases: dict[str, Case] = {}
    commands: list[str] = []
    late = unknown = 0
    events = events_of(log)
    for at, name, activity in events:
        fire_until(cases, at, commands)
        case = cases.setdefault(name, Case())
        status = status_of(activity)
        if case.status == "paid":
            late += 1
        elif status is None:
            unknown += 1
        else:
            case.status = status
            case.counts["applied"] += 1
            case.counts[status] += 1
            case.reminded = 0
            case.due = None if status == "paid" else at + timedelta(days=7)
    counts = ("applied", "submitted", "rejected", "SendReminder", "Escalate")
    total = sum((case.counts for case in cases.values()), Counter())
    statuses = Counter(case.status for case in cases.values())
    states = [
        "|".join([name, case.status, *(str(case.counts[count]) for count in counts)])
        for name, case in cases.items()
    ]
    return {
        "instances": len(cases),
        "events": len(events),
        "applied": total["applied"],
        "late_events": late,
        "unknown": unknown,
        "completed": statuses["paid"],
        "open": len(cases) - statuses["paid"],
        "reminders": total["SendReminder"],
        "escalations": total["Escalate"],
        "pending_deadlines": sum(case.due is not None for case in cases.values()),
        "statuses": dict(statuses),
        "state_digest": sha256(states),
        "command_digest": sha256(commands),
    }


def sha256(lines: list[str]) -> str:
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


# declarations.py


def test_sample_log_shows_every_case() -> None:
    figures = simulate(SAMPLE)
    wanted = ("late_events", "unknown", "open", "reminders", "escalations", "pending_deadlines")
    assert all(figures[name] > 0 for name in wanted)
    assert {"new", "rejected", "paid"} <= set(figures["statuses"])


@pytest.mark.parametrize("options", [[], ["--max-resident", "1"]], ids=["roomy", "crowded"])
def test_declarations_in_memory(options: list[str]) -> None:
    assert figures_of(*options) == simulate(SAMPLE)


def test_declarations_twice_over_one_file(tmp_path: Path) -> None:
    store = ["--store", sqlite_url(tmp_path / "declarations.db")]
    expected = simulate(SAMPLE)
    assert figures_of(*store) == expected
    assert figures_of(*store, "--max-resident", "2") == expected
    assert_all_is_written_down(tmp_path / "declarations.db.notices", expected)


def test_declarations_in_memory_twice_over_the_same_notices(tmp_path: Path) -> None:
    expected = simulate(SAMPLE)
    for _ in range(2):
        assert figures_of("--notices", tmp_path / "notices") == expected
        assert_all_is_written_down(tmp_path / "notices", expected)


def test_declarations_in_words() -> None:
    ended = run(DECLARATIONS)
    words = [line.split() for line in ended.stdout.splitlines()]
    assert ["late", "events", str(simulate(SAMPLE)["late_events"])] in words


FUSE = """
import asyncio, os, runpy, sys
from perdure import Runtime

signum, messages, rounds, script = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
plain = Runtime.publish

def burn(rounds):
    if rounds:
        asyncio.get_running_loop().call_soon(burn, rounds - 1)
    else:
        os.kill(os.getpid(), signum)

async def publish(self, *arguments, **options):
    global messages
    messages -= 1
    if messages == 0:
        burn(rounds)
    return await plain(self, *arguments, **options)

Runtime.publish = publish
sys.argv = sys.argv[4:]
sys.path.insert(0, os.path.dirname(script))
runpy.run_path(script, run_name="__main__")
"""
"""Runs a script that gets a signal some rounds of the loop after it began to publish its nth
message: before the commit, during it or after it, and without anybody looking at a clock."""


def run_fused(
    signum: int, messages: int, rounds: int, *options: str | Path
) -> subprocess.CompletedProcess[str]:
    fuse = (str(number) for number in (int(signum), messages, rounds))
    return run("-c", FUSE, *fuse, DECLARATIONS, "--json", *options)


def test_declarations_killed_again_and_again(tmp_path: Path) -> None:
    store = ["--store", sqlite_url(tmp_path / "declarations.db")]
    rounds = [0, 1, 2, 3, 5, 8, 20, 60, 200]
    for number, messages in enumerate(range(1, 67, 8)):
        killed = run_fused(signal.SIGKILL, messages, rounds[number], *store)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert killed.stdout == ""
    assert figures_of(*store) == simulate(SAMPLE)
    assert_all_is_written_down(tmp_path / "declarations.db.notices", simulate(SAMPLE))


WORKER_FUSE = """
import os, runpy, signal, sys
moment, number, script = sys.argv[1], int(sys.argv[2]), sys.argv[3]
sys.path.insert(0, os.path.dirname(script))
from notices import Notices
plain = Notices.append

def append(self, key, notice):
    global number
    number -= 1
    if number == 0:
        if moment == "torn":
            self._file.write(b'{"key": "hal')
        elif moment == "written":
            plain(self, key, notice)
        os.kill(os.getpid(), signal.SIGKILL)
    plain(self, key, notice)

Notices.append = append
sys.argv = sys.argv[3:]
runpy.run_path(script, run_name="__main__")
"""
"""Runs a script that is killed in its nth notice: before it is written, in the midst of it, or when
it is written and nobody has heard of it yet."""


def kill_at_notice(moment: str, number: int, *options: str | Path) -> None:
    killed = run("-c", WORKER_FUSE, moment, str(number), DECLARATIONS, "--json", *options)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert killed.stdout == ""


def test_declarations_killed_with_the_worker_at_work(tmp_path: Path) -> None:
    store = ["--store", sqlite_url(tmp_path / "declarations.db")]
    notices = tmp_path / "declarations.db.notices"
    for moment, number in (
        *[("before", 1), ("torn", 1)] * 3,  # the same command: being killed is not its fault
        *(("written", number) for number in (1, 2, 5)),
    ):
        kill_at_notice(moment, number, *store)
        assert notices.read_bytes().endswith(b"hal") == (moment == "torn")
    assert figures_of(*store) == simulate(SAMPLE)
    assert_all_is_written_down(notices, simulate(SAMPLE))


def test_declarations_stopped_in_order(tmp_path: Path) -> None:
    store = ["--store", sqlite_url(tmp_path / "declarations.db")]
    stopped = run_fused(signal.SIGTERM, 30, 0, *store)
    assert stopped.returncode == 128 + signal.SIGTERM
    assert stopped.stdout == ""
    assert stopped.stderr.startswith("stopped before the end")
    assert figures_of(*store) == simulate(SAMPLE)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--log", "no/such.xes"], "no/such.xes"),
        (["--log", __file__], f"{__file__}, line 1: not well-formed XML"),
        (["--store", "carrier-pigeon://"], "names no store"),
        (["--max-resident", "0"], "residents_max"),
        (["--store", "sqlite+aiosqlite:///no/such/directory.db"], "no/such/directory"),
        (["--notices", "no/such/directory"], "no/such/directory"),
        (["--notices", __file__], f"{__file__}, line 1: no notice"),
    ],
)
def test_declarations_complain_in_one_line(options: list[str], complaint: str) -> None:
    ended = run(DECLARATIONS, *options)
    assert ended.returncode == 1
    assert complaint in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_empty_log(tmp_path: Path) -> None:
    log = tmp_path / "empty.xes"
    log.write_text("<log/>")
    assert figures_of("--log", log) == simulate(log)


LOG, GOLDEN = (os.environ.get(f"PERDURE_DECLARATIONS_{name}") for name in ("LOG", "GOLDEN"))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not (LOG and GOLDEN), reason="PERDURE_DECLARATIONS_LOG and _GOLDEN are not set")
class TestRealLog:
    golden = json.loads(Path(GOLDEN).read_text()) if LOG and GOLDEN else {}
    log = ("--log", LOG or "")

    @pytest.mark.parametrize("options", [[], ["--max-resident", "200"]], ids=["roomy", "crowded"])
    def test_in_memory(self, options: list[str]) -> None:
        assert figures_of(*self.log, *options) == self.golden

    def test_on_sqlite_twice(self, tmp_path: Path) -> None:
        store = ["--store", sqlite_url(tmp_path / "declarations.db")]
        assert figures_of(*self.log, *store) == self.golden
        assert figures_of(*self.log, *store, "--max-resident", "200") == self.golden
        assert_all_is_written_down(tmp_path / "declarations.db.notices", self.golden)

    def test_killed_again_and_again(self, tmp_path: Path) -> None:
        chance = random.Random(7)
        store = ["--store", sqlite_url(tmp_path / "declarations.db")]
        for moment in ("written", "torn", "before"):
            kill_at_notice(moment, chance.randrange(1, 1000), *self.log, *store)
        for messages in sorted(chance.sample(range(1, self.golden["events"]), 3)):
            killed = run_fused(signal.SIGKILL, messages, chance.randrange(20), *self.log, *store)
            assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert figures_of(*self.log, *store) == self.golden
        assert_all_is_written_down(tmp_path / "declarations.db.notices", self.golden)


# order_fulfilment.py

STORY = """\
First process, over URL:
  m-1 OrderPlaced  o-1: applied
  m-2 OrderPlaced  o-2: applied
  m-3 OrderPlaced  o-3: applied
  m-4 OrderPlaced  o-4: applied
  m-5 OrderPlaced  o-5: applied
  m-6 OrderPlaced  o-6: applied
  m-7 OrderPlaced  o-7: applied
  m-8 ItemPicked   killed, exit code -9

The second process takes up what the first one had begun:
  asked 2 times, the carrier booked 1
  o-1 completed, shipped
  o-2 failed, cancelled (shop.OutOfStock: no sofa left)
  o-3 failed, cancelled (the card was declined)
  o-4 running, awaiting_picking
  o-5 running, awaiting_picking
  o-6 running, awaiting_picking
  o-7 running, awaiting_picking

The message without an answer is sent again, and one that comes too late:
  m-8 ItemPicked o-1: applied, known: nothing happened
  m-9 OrderCancelled o-1: finished

Messages for orders that are not in memory wake them:
  m-10 ItemPicked o-4: applied
  m-11 ItemPicked o-5: applied
  m-12 OrderCancelled o-7: applied
  in memory: 1, then 4

A minute later the carrier has taken one of the two, and the other is undone:
  o-1 completed, shipped
  o-2 failed, cancelled (shop.OutOfStock: no sofa left)
  o-3 failed, cancelled (the card was declined)
  o-4 failed, cancelled (ConnectionError: the carrier has no room for a piano)
  o-5 completed, shipped
  o-6 running, awaiting_picking
  o-7 failed, cancelled (cancelled)

Fifteen days later:
  o-1 completed, shipped
  o-2 failed, cancelled (shop.OutOfStock: no sofa left)
  o-3 failed, cancelled (the card was declined)
  o-4 failed, cancelled (ConnectionError: the carrier has no room for a piano)
  o-5 completed, shipped
  o-6 failed, cancelled (took too long)
  o-7 failed, cancelled (cancelled)

The history of o-4, of both processes:
  1 OrderPlaced: applied, sent ProcessPayment
  2 PaymentReceived: applied, sent ReserveInventory
  3 InventoryReserved: applied
  4 ItemPicked: applied, sent ShipItem
  5 perdure.CommandFailed: applied, sent RefundPayment, sent ReleaseInventory
  6 PaymentRefunded: applied
  7 InventoryReleased: applied

Commands that failed for good:
  o-2 ReserveInventory: non-retryable, 1 attempts
  o-4 ShipItem: exhausted, 4 attempts

The shop's own books, and the carrier's:
  o-1 paid +40
  o-2 paid +500 -500
  o-4 paid +900 -900
  o-5 paid +60
  o-6 paid +41 -41
  o-7 paid +42 -42
  o-1 sold for 40
  o-5 sold for 60
  o-6 please pick it
  o-1 shipped once, the carrier was asked 2 times
  o-5 shipped once, the carrier was asked 3 times
  in stock: lamp 4, mirror 4, piano 1, sofa 0
"""


def test_story_of_an_order(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path / "orders.db")
    ended = run(ORDERS, "--store", url)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    assert ended.stdout.replace(url, "URL") == STORY


def test_story_told_again_over_the_same_files(tmp_path: Path) -> None:
    """Nobody is killed, all messages are known, nothing is done again."""
    store = ["--store", sqlite_url(tmp_path / "orders.db")]
    first, again = run(ORDERS, *store), run(ORDERS, *store)
    assert (again.returncode, again.stderr) == (0, "")
    assert again.stdout.count("known: nothing happened") == 5
    last = "Commands that failed for good:"
    wanted = first.stdout.partition(last)[2].splitlines()
    carried = [line for line in wanted if "shipped once" in line]
    assert again.stdout.partition(last)[2].splitlines() == [
        line for line in wanted if line not in carried
    ]
    assert len(carried) == 2


def test_story_in_a_temporary_directory() -> None:
    ended = run(ORDERS)
    assert ended.returncode == 0, ended.stderr
    path = ended.stdout.partition("///")[2].partition(":\n")[0]
    assert path.endswith("orders.db")
    assert not Path(path).parent.exists()


def test_story_needs_a_file() -> None:
    assert "name a file" in run(ORDERS, "--store", "memory://").stderr


class Service:
    """``order_fulfilment.py --serve``, spoken to over its pipes."""

    def __init__(self, store: Path) -> None:
        command = [sys.executable, str(ORDERS), "--serve", "--store", sqlite_url(store)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)

    def __enter__(self) -> Service:
        assert self.heard() == "ready"
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def heard(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def told(self, line: str) -> str:
        assert self.process.stdin is not None
        print(line, file=self.process.stdin, flush=True)
        return self.heard()


def order_placed(order_id: str) -> str:
    return json.dumps(
        {
            "id": "m",
            "type": "OrderPlaced",
            "data": {"order_id": order_id, "item": "lamp", "amount": 1},
        }
    )


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_service_stops_in_order(signum: signal.Signals, tmp_path: Path) -> None:
    with Service(tmp_path / "orders.db") as service:
        assert service.told(order_placed("o-1")) == "o-1: applied"
        service.process.send_signal(signum)
        assert service.heard() == "stopped"
        assert service.process.wait() == 0
    with Service(tmp_path / "orders.db") as again:  # the store was given up
        assert again.told(order_placed("o-1")) == "o-1: applied"


def test_service_survives_nonsense_and_stops_with_its_input(tmp_path: Path) -> None:
    with Service(tmp_path / "orders.db") as service:
        for nonsense in ("{", "[]", "{}", '{"type": "Nothing", "data": {}}', "[" * 50_000):
            assert service.told(nonsense).startswith("refused: ")
        answer = service.told("9" * 1_000_000 + "\n" + order_placed("o-1"))  # too long a line
        while answer.startswith("refused: "):
            answer = service.heard()
        assert answer == "o-1: applied"
        assert service.process.communicate()[0] == "stopped\n"
        assert service.process.returncode == 0


# money_transfer.py and money_transfer_killed.py

TRANSFERS = """\
before: fees 0.00, alice 100.00, bob 20.00, carol 0.00; together 120.00
  t-1  30.00 from alice to bob: completed, credited
  t-2  50.00 from alice to carol: completed, compensated with residue: fee 1.00
  t-3 900.00 from bob to alice: failed, Refused: account bob has only 50.00
  t-4  10.00 from alice to nobody: completed, compensated with residue: fee 1.00
after:  fees 2.00, alice 68.00, bob 50.00, carol 0.00; together 120.00
"""


@pytest.mark.parametrize("command", [[TRANSFER], ["-m", "examples.money_transfer"]])
def test_money_transfer(command: list[str | Path]) -> None:
    ended = run(*command)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == TRANSFERS


def test_money_transfer_again_over_the_same_files(tmp_path: Path) -> None:
    for first in (
        TRANSFERS.splitlines()[0],
        TRANSFERS.splitlines()[-1].replace("after: ", "before:"),
    ):
        ended = run(TRANSFER, "--directory", tmp_path / "money")
        assert (ended.returncode, ended.stderr) == (0, "")
        assert ended.stdout.splitlines() == [first, *TRANSFERS.splitlines()[1:]]


def killed_transfers(transfers: int, kills: int, *options: str) -> dict[str, Any]:
    """The figures of a run that must be in order: it says so by its exit code."""
    ended = run(KILLED, "--transfers", str(transfers), "--kills", str(kills), "--json", *options)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stderr == ""
    found: dict[str, Any] = json.loads(ended.stdout)
    failing = found["to closed accounts"]
    assert found["kills"] == kills
    assert found["kills during a booking"] > 0
    assert (found["debited"], found["lost"], found["doubled"]) == (transfers, 0, 0)
    assert (found["credited"], found["refunded"]) == (transfers - failing, failing)
    assert found["money at first"] == found["money at last"]
    assert found["asked again"] > 0  # some booking had been made, and nobody had heard of it
    return found


def test_money_transfers_killed_again_and_again() -> None:
    assert killed_transfers(100, 6, "--failing", "0.3", "--seed", "5")["refunded"] == 30


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_thousand_money_transfers_killed_twenty_times() -> None:
    assert killed_transfers(1000, 20)["refunded"] == 200


# document_approval.py

THREE_DOCUMENTS = """\
People are played by this script, and time is simulated: the weeks pass at once.

A lease, by lea, who is of the legal department herself:
  05 Jan  d-1 is handed in: applied
  05 Jan    to max: please decide on d-1/manager-1
  05 Jan  sam, approve d-1/manager-1: not-allowed (sam is not among those who may decide now)
  05 Jan  max, approve d-1/manager-1: approved
  05 Jan    to lea: d-1/manager-1 is approved
  05 Jan    to leo, liz: please decide on d-1/legal-1
  05 Jan  lea, approve d-1/legal-1: not-allowed (lea is the requester)
  05 Jan  leo, approve d-1/legal-1: recorded (1 missing)
  05 Jan  leo, approve d-1/legal-1: duplicate (1 missing)
          the runtime is stopped; 5 days later another goes on over the same file
  10 Jan    to liz: reminder, please decide on d-1/legal-1
  10 Jan  liz, approve d-1/legal-1: approved
  10 Jan    to lea: d-1/legal-1 is approved
  10 Jan  leo, reject d-1/legal-1: already-decided

An offer, by ada, which is changed:
  10 Jan  d-2 is handed in: applied
  10 Jan    to max: please decide on d-2/manager-1
  10 Jan  max, approve d-2/manager-1: approved
  10 Jan    to ada: d-2/manager-1 is approved
  10 Jan    to lea, leo, liz: please decide on d-2/legal-1
  10 Jan  leo, reject d-2/legal-1: rejected
  10 Jan    to ada: d-2/legal-1 is rejected, leo says: until when?
          6 days pass
  16 Jan  d-2 is handed in: applied
  16 Jan    to max: please decide on d-2/manager-2
  16 Jan  max, approve d-2/manager-2: changed (this is not what is to be approved now)
  16 Jan  max, approve d-2/manager-2: approved
  16 Jan    to ada: d-2/manager-2 is approved
  16 Jan    to lea, leo, liz: please decide on d-2/legal-2
  16 Jan  liz, approve d-2/legal-2: recorded (1 missing)
  16 Jan  leo, approve d-2/legal-2: approved
  16 Jan    to ada: d-2/legal-2 is approved

A takeover, by ada, large enough for the board:
  16 Jan  d-3 is handed in: applied
  16 Jan    to max: please decide on d-3/manager-1
  16 Jan  max, approve d-3/manager-1: approved
  16 Jan    to ada: d-3/manager-1 is approved
  16 Jan    to lea, leo, liz: please decide on d-3/legal-1
  16 Jan  leo, approve d-3/legal-1: recorded (1 missing)
  16 Jan  liz, approve d-3/legal-1: approved
  16 Jan    to ada: d-3/legal-1 is approved
  16 Jan    to bea, ben: please decide on d-3/board-1
  16 Jan  bea, approve d-3/board-1: recorded (1 missing)
  16 Jan  chair, approve d-3/board-1: not-allowed (chair is not among those who may decide now)
          21 days pass
  21 Jan    to ben: reminder, please decide on d-3/board-1
  26 Jan    to chair: escalated, please decide on d-3/board-1
  26 Jan    to chair, ben: reminder, please decide on d-3/board-1
  06 Feb    to ada: d-3/board-1 is expired
  06 Feb  chair, approve d-3/board-1: expired

The end:
  d-1 completed, published in version 1
  d-2 completed, published in version 2
  d-3 failed, board-1: expired
  to be read by all: d-1 lea We rent the hall.
  to be read by all: d-2 ada We clean the hall until May.
"""


@pytest.mark.parametrize("command", [[DOCUMENTS], ["-m", "examples.document_approval"]])
def test_story_of_three_documents(command: list[str | Path]) -> None:
    ended = run(*command)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == THREE_DOCUMENTS


# onboarding.py

FOUR_USERS = """\
The first process, with ann, has ended with exit code -9.
The second one goes on over the same files; time is simulated:
          onboarding/ann/open_file is asked for again, and was done
  05 Jan  account for ann
  05 Jan  account for bob
  05 Jan  account for cid
  05 Jan  account for dot
  05 Jan  customer file of ann
  05 Jan  customer file of bob
  05 Jan  customer file of cid
  05 Jan  customer file of dot
  05 Jan  letter to ann: welcome
  05 Jan  letter to bob: welcome
  05 Jan  letter to cid: welcome
  05 Jan  letter to dot: welcome
          3 days pass
  08 Jan  ann logs in
  08 Jan  cid logs in
  08 Jan  dot logs in
          7 days pass
  15 Jan  account of dot closed
          stopped in order; a newer version goes on over the same files
          35 days pass
  04 Feb  letter to bob: we miss you
  07 Feb  account of cid closed
  07 Feb  ann pays 9.00
  18 Feb  account of bob closed
          100 days pass
  09 Mar  ann pays 9.00
  08 Apr  ann pays 9.00
  08 May  letter to ann: thank you

The end:
  ann completed: customer since 08 Jan
  bob completed: never came
  cid failed: perdure.errors.StepFailed: step 'charge:0' has failed (non-retryable): \
perdure.errors.NonRetryable: the card is declined
  dot failed: cancelled: changed her mind
  account 1 of ann is open
"""


@pytest.mark.parametrize("command", [[ONBOARDING], ["-m", "examples.onboarding"]])
def test_story_of_four_users(command: list[str | Path]) -> None:
    ended = run(*command)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == FOUR_USERS


# travel_booking.py and travel_booking_killed.py

TRIPS = """\
Four trips:
  t-1 to Rome   completed: hotel-1, flight-1, car-1
  t-2 to Oslo   failed: book_flight: agencies.Refused: no flight to be had in Oslo (compensated \
with residue: cancellation fee of the hotel 25.00)
  t-3 to Turin  failed: book_car: agencies.Refused: no car to be had in Turin (compensated \
with residue: cancellation fee of the hotel 25.00)
  t-4 to Nuuk   stuck: book_hotel (could not be undone): agencies.Refused: nobody is there in \
Nuuk to cancel hotel-4

Stuck, and resumed when somebody is at the hotel in Nuuk again:
  t-4 is stuck at book_hotel
  t-4 to Nuuk   failed: book_flight: agencies.Refused: no flight to be had in Nuuk (compensated \
with residue: cancellation fee of the hotel 25.00)

The history of t-2:
  1 Trip StepStarted
  2 StepCompleted StepAdvanced StepStarted
  3 CommandFailed StepFailed CompensationStarted CompensationStepStarted
  4 StepCompensated CompensationCompleted

The agencies' books:
  t-1 hotel-1   booked      300.00
  t-2 hotel-2   booked      300.00
  t-2 hotel-2   cancelled  -275.00
  t-3 hotel-3   booked      300.00
  t-3 hotel-3   cancelled  -275.00
  t-4 hotel-4   booked      300.00
  t-4 hotel-4   cancelled  -275.00
  t-1 flight-1  booked      150.00
  t-3 flight-2  booked      150.00
  t-3 flight-2  cancelled  -150.00
  t-1 car-1     booked       90.00
"""


def test_travel_booking() -> None:
    ended = run(TRAVEL)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == TRIPS


def test_travel_booking_again_over_the_same_files(tmp_path: Path) -> None:
    """All trips are known and have ended: nothing is stuck, nothing is booked."""
    books = "The agencies' books:"
    for stuck in (1, 0):
        ended = run(TRAVEL, "--directory", tmp_path / "travel")
        assert (ended.returncode, ended.stderr) == (0, "")
        assert ended.stdout.count("is stuck at") == stuck
        assert ended.stdout.partition(books)[2] == TRIPS.partition(books)[2]


def killed_trips(trips: int, kills: int, *options: str) -> dict[str, Any]:
    """The figures of a run that must be in order: it says so by its exit code."""
    ended = run(TRAVEL_KILLED, "--trips", str(trips), "--kills", str(kills), "--json", *options)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stderr == ""
    found: dict[str, Any] = json.loads(ended.stdout)
    assert found["kills"] == kills
    assert found["failed, booked and not cancelled"] == found["doubled"] == 0
    assert found["completed"] + found["compensated"] + found["stuck"] == trips
    assert found["asked again"] > 0
    return found


def test_trips_killed_again_and_again() -> None:
    found = killed_trips(40, 3, "--seed", "5")
    assert (found["completed"], found["compensated"], found["stuck"]) == (30, 9, 1)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_five_hundred_trips_killed_twenty_times() -> None:
    found = killed_trips(500, 20)
    assert (found["completed"], found["compensated"], found["stuck"]) == (375, 113, 12)
    assert found["kills during a request"] > 5


# order_processing.py

PROCESSED = """\
o-1 completed
    open_order completed, validate_order completed, process_payment completed, \
update_inventory completed, send_confirmation completed
o-2 failed: update_inventory: shop.OutOfStock: no lamp left (compensated)
    open_order compensated, validate_order skipped, process_payment compensated, \
update_inventory failed
o-3 failed: validate_order: perdure.errors.NonRetryable: 0 pieces for 0 (compensated)
    open_order compensated, validate_order failed
The shop's own books:
    o-1 paid +80
    o-2 paid +40
    o-2 paid -40
    o-1 opened
    o-1 yours: lamp, 2 pieces
    o-2 opened
    o-2 we are sorry, it has come to nothing
    o-3 opened
    o-3 we are sorry, it has come to nothing
    lamp: 0 in stock
"""


def test_order_processing_also_again_over_the_same_files(tmp_path: Path) -> None:
    for _ in range(2):
        ended = run(PROCESSING, "--directory", tmp_path / "orders")
        assert (ended.returncode, ended.stderr) == (0, "")
        assert ended.stdout == PROCESSED


# document_processing.py

PROCESSED_LETTERS = """\
The first process:
  l-1 completed: 29 words, lamps, broken
  exit code -9

The second process goes on where the last checkpoint is:
  l-1 completed: 29 words, lamps, broken
  l-2 completed: 27 words, monday, meeting
  l-3 completed: 34 words, invoice, piano
  l-4 stuck: validate (failed, and what was done before is not undone): UnicodeDecodeError: \
'utf-8' codec can't decode byte 0xff in position 9: invalid start byte

A good copy is put in the place of the damaged letter:
  l-4 has done upload
  l-4 completed: 12 words, garden

How often each step has run:
  l-1 upload 1, validate 1, extract 1, analyse 1, summarise 1
  l-2 upload 1, validate 1, extract 2 (1 cut off), analyse 2 (1 failed), summarise 1
  l-3 upload 1, validate 2 (1 failed), extract 1, analyse 1, summarise 1
  l-4 upload 1, validate 6 (5 failed), extract 1, analyse 1, summarise 2 (1 failed)
Steps that were done twice: 0

The summary of l-3: Your invoice: Nobody here has ever ordered a piano, so please take the piano \
off the invoice and send another invoice.
"""


def test_document_processing() -> None:
    ended = run(LETTERS)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == PROCESSED_LETTERS


# notices.py


@pytest.fixture
def notices(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(EXAMPLES)
    return importlib.import_module("notices")


def reminder(case: str) -> dict[str, Any]:
    return {"case": case, "notice": "reminder"}


def test_notices_hold_a_key_once(notices: Any, tmp_path: Path) -> None:
    for _ in range(2):
        with notices.Notices(tmp_path / "notices") as opened:
            for case in ("a", "b\n", "a"):
                opened.append(f"key of {case}", reminder(case))
            assert len(opened) == 2
    assert notices_in(tmp_path / "notices") == [("a", "reminder"), ("b\n", "reminder")]


def test_a_torn_notice_is_taken_away_and_written_again(notices: Any, tmp_path: Path) -> None:
    path = tmp_path / "notices"
    with notices.Notices(path) as opened:
        opened.append("a", reminder("a"))
        opened.append("b", reminder("b"))
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for end in range(first, len(whole)):
        path.write_bytes(whole[:end])
        with notices.Notices(path) as opened:
            assert path.read_bytes() == whole[:first]
            opened.append("b", reminder("b"))
        assert path.read_bytes() == whole


def test_a_notice_the_disk_has_no_room_for_leaves_nothing(
    notices: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with notices.Notices(tmp_path / "notices") as opened:
        opened.append("a", reminder("a"))
        with monkeypatch.context() as patch:
            patch.setattr(notices.os, "fsync", full)
            with pytest.raises(OSError, match="No space"):
                opened.append("b", reminder("b"))
        assert notices_in(tmp_path / "notices") == [("a", "reminder")]
        opened.append("b", reminder("b"))
    assert notices_in(tmp_path / "notices") == [("a", "reminder"), ("b", "reminder")]


def test_a_notice_is_on_the_disk_when_append_returns(
    notices: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[bytes] = []
    path = tmp_path / "notices"
    monkeypatch.setattr(notices.os, "fsync", lambda descriptor: synced.append(path.read_bytes()))
    with notices.Notices(path) as opened:
        opened.append("a", reminder("a"))
    assert synced[-1] == path.read_bytes() != b""


def test_only_one_writes_notices(notices: Any, tmp_path: Path) -> None:
    path = tmp_path / "notices"
    with notices.Notices(path), pytest.raises(OSError, match="another process writes"):
        notices.Notices(path)
    notices.Notices(path).__exit__()


# xes.py


@pytest.fixture
def xes(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(EXAMPLES)
    return importlib.import_module("xes")


def event(*, leave_out: str = "", at: str = "2023-01-02T09:00:00+01:00") -> str:
    attributes = {"id": "step 1", "concept:name": "Request Payment", "time:timestamp": at}
    attributes.pop(leave_out, None)
    return "<event>\n{}\n</event>".format(
        "\n".join(f'<string key="{key}" value="{value}"/>' for key, value in attributes.items())
    )


def log_of(*events: str, start: str = "<log>") -> str:
    name = '<string key="concept:name" value="case 1"/>'
    return f"{start}\n<trace>\n{name}\n{''.join(events)}\n</trace>\n</log>"


def read(xes: Any, tmp_path: Path, document: str | bytes) -> list[Any]:
    path = tmp_path / "log.xes"
    path.write_bytes(document if isinstance(document, bytes) else document.encode())
    return list(xes.read_events(path))


@pytest.mark.parametrize(
    "start",
    [
        "<log>",
        '<log xmlns="http://www.xes-standard.org/">',
        '<?xml version="1.0"?><log version="2">',
    ],
)
@pytest.mark.parametrize("pack", [str.encode, lambda text: gzip.compress(text.encode())])
def test_xes_is_read(xes: Any, tmp_path: Path, start: str, pack: Any) -> None:
    (only,) = read(xes, tmp_path, pack(log_of(event(), start=start)))
    assert only == (1672646400000, "case 1", "Request Payment", "step 1")
    assert only.at == datetime(2023, 1, 2, 8, tzinfo=UTC)


def test_xes_with_prefixes_and_with_attributes_of_attributes(xes: Any, tmp_path: Path) -> None:
    nested = '<x:list key="more"><x:string key="id" value="not this"/></x:list>'
    document = log_of(event().replace("\n<", nested + "<", 1), start="<log>")
    for tag in ("log", "trace", "event", "string"):
        document = document.replace(f"<{tag}", f"<x:{tag}").replace(f"</{tag}", f"</x:{tag}")
    document = document.replace("<x:log", '<x:log xmlns:x="http://www.xes-standard.org/"', 1)
    (only,) = read(xes, tmp_path, document)
    assert only.id == "step 1"


def test_xes_name_of_a_trace_may_come_last(xes: Any, tmp_path: Path) -> None:
    name = '<string key="concept:name" value="case 1"/>'
    document = f"<log><trace>{event()}{name}</trace></log>"
    assert [found.case for found in read(xes, tmp_path, document)] == ["case 1"]


BOMB = """<!DOCTYPE log [<!ENTITY a "aaaaaaaaaa">
{}]><log>&z;</log>""".format(
    "\n".join(
        f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefghy", "bcdefghyz", strict=True)
    )
)
WIDE = f'<log>\n<trace><string key="x" value="{"x" * 3_000_000}"/></trace></log>'


@pytest.mark.parametrize(
    ("document", "line", "complaint"),
    [
        (BOMB, 1, "document type definition"),
        ('<!DOCTYPE log SYSTEM "file:///etc/passwd"><log/>', 1, "document type definition"),
        (log_of(event(leave_out="id")), 7, "an event has no 'id'"),
        (log_of(event(leave_out="concept:name")), 7, "an event has no 'concept:name'"),
        (log_of(event(leave_out="time:timestamp")), 7, "an event has no 'time:timestamp'"),
        (log_of(event(at="yesterday")), 8, "'yesterday' is no date"),
        (log_of(event(at="2023-01-02T09:00:00")), 8, "with a time zone"),
        (log_of(event(at="0001-01-01T00:00:00+23:59")), 8, "is before 1970"),
        (log_of(event()).replace("case 1", ""), 2, "a trace has no 'concept:name'"),
        (log_of(event())[:-6], 10, "not well-formed XML"),
        ("<html/>", 1, "the document is a <html>"),
        ("", 1, "not well-formed XML"),
        ("<log>" + "<a>" * 200, 1, "nested deeper"),
        (WIDE, 2, "more than 1048576 bytes"),
        (gzip.compress(WIDE.encode()), 2, "more than 1048576 bytes"),
        (gzip.compress(log_of(event()).encode())[:-20], 1, "damaged or cut off"),
        (gzip.compress(log_of(event()).encode())[:-4] + b"oops", 1, "damaged or cut off"),
        (b"\x1f\x8bnonsense", 1, "damaged or cut off"),
    ],
)
def test_xes_refuses(
    xes: Any, tmp_path: Path, document: str | bytes, line: int, complaint: str
) -> None:
    with pytest.raises(xes.XesError) as refused:
        read(xes, tmp_path, document)
    assert str(refused.value).startswith(f"{tmp_path / 'log.xes'}, line {line}: ")
    assert complaint in str(refused.value)


def test_examples_in_docstrings(xes: Any) -> None:
    assert doctest.testmod(importlib.import_module("declarations")).failed == 0
