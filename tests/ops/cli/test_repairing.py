"""Commands that repair and send: through a live runtime, through one made here, or not at all."""

from __future__ import annotations

import json
import os
import threading

import pytest

from perdure.errors import HandlerFailed
from perdure.ops.cli import main
from perdure.ops.control import client
from tests.ops.cli.support import Command, Live, filled
from tests.runtime.broken import Order, Shop, trip
from tests.runtime.frail import Born, Hit, Quarantined
from tests.sagas import TRIED, Added, Begun, Flaky, Ledger, Opened, Shaky, Struck

WHY = ("--why", "bug 4711")


@pytest.fixture(autouse=True)
def untried(monkeypatch, perdure: Command):
    TRIED.clear()
    monkeypatch.setenv("PERDURE_BY", "ann")
    monkeypatch.setenv("TESTED_STORE", str(perdure.path))


def dead_letters(live: Live) -> None:
    """Three letters: of two instances that go on, and one that the fix will not help."""
    for id, how in [("x", "error"), ("a/b c", "error"), ("ü", "nonsense")]:
        live.send(Ledger, id, Opened(id))
        with pytest.raises(HandlerFailed):
            live.send(Ledger, id, Struck(id, how))


def audit(perdure: Command, instance: str) -> list[tuple[str, str, str]]:
    """Who has done what to it, and why, as its history tells."""
    told = [
        row["message"]
        for row in perdure.rows("instances", "history", instance)
        if row["type"] == "perdure.Intervention"
    ]
    return [(one["by"], one["action"], one["why"]) for one in told]


@pytest.fixture
def live(perdure: Command):
    with Live(perdure.path) as live:
        yield live


def test_a_message_is_sent_to_any_id_and_applied_once(live, perdure):
    for id in ("x", "a/b c", "注文", "--help", "-x"):
        data = json.dumps({"id": id})
        words = ("send", f"Ledger/{id}", "runtime-test.opened", data, "--message-id", "m-1")
        found = perdure.document(*words)
        assert (found["correlation_id"], found["outcome"]) == (id, "applied")
        assert perdure.document(*words)["duplicate"]
        assert "known by its id, and nothing was done now" in perdure(*words)
    said = perdure("send", "Ledger/x", "runtime-test.added", '{"id": "x", "n": 4}')
    assert said == "Ledger/x: applied in turn 2\n"


def test_data_come_from_files_and_stdin_too(live, perdure, tmp_path, monkeypatch):
    (tmp_path / "data.json").write_text('{"id": "f"}')
    perdure("send", "Ledger/f", "runtime-test.opened", f"@{tmp_path / 'data.json'}")
    lines = [
        json.dumps({"type": "runtime-test.opened", "data": {"id": f"p-{n}"}}) for n in range(9)
    ]
    (tmp_path / "events.jsonl").write_text("\n".join([*lines, ""]))
    assert len(perdure.rows("publish", "--file", str(tmp_path / "events.jsonl"))) == 9
    assert perdure.err.endswith("9 of 9 events published, to 9 instances\n")
    event = ("publish", "runtime-test.added", '{"id": "p-0", "n": 1}', "--message-id", "e-1")
    perdure(*event)
    perdure(*event)
    assert perdure.err.endswith("1 of 1 events published, to 1 instances; 1 duplicate\n")
    both = ("publish", "runtime-test.opened", "--file", str(tmp_path / "events.jsonl"))
    perdure(*both, exits=2)
    assert "leave TYPE away" in perdure.err
    for text, said in [
        ("{", "no JSON"),
        ("@/nowhere", "cannot read"),
        ("[1]", "runtime-test.opened"),
    ]:
        perdure("send", "Ledger/f", "runtime-test.opened", text, exits=4 if text == "[1]" else 2)
        assert said in perdure.err
    (tmp_path / "bad.jsonl").write_text(lines[0] + "\nnonsense\n")
    perdure("publish", "--file", str(tmp_path / "bad.jsonl"), exits=2)
    assert "line 2" in perdure.err


def test_dead_letters_are_redriven_one_edited_and_all_with_who_and_why(live, perdure):
    dead_letters(live)
    perdure("dead", "redrive", "1", *WHY, "--dry-run", exits=1)
    assert "raised ValueError: struck" in perdure.err
    assert len(perdure.rows("dead", "list")) == 3
    perdure("dead", "redrive", "1", *WHY, exits=1)  # the handler raises again
    assert len(perdure.rows("dead", "list")) == 3
    perdure("dead", "redrive", "1", *WHY, "--type", "runtime-test.added", "--data",
            '{"id": "x", "n": 2}')  # fmt: skip
    assert audit(perdure, "Ledger/x") == [("ann", "redrive", "bug 4711")]
    perdure("dead", "redrive", "1", *WHY, exits=4)
    assert [row["id"] for row in perdure.rows("dead", "list")] == [2, 3]
    tried = perdure.rows("dead", "redrive", "--all", *WHY, "--yes", exits=1)
    assert [row["ok"] for row in tried] == [False, False]
    done = perdure.rows("dead", "discard", "--all", *WHY, "--yes")
    assert [(row["item"], row["ok"]) for row in done] == [("letter 2", True), ("letter 3", True)]
    assert perdure.rows("dead", "list") == []
    assert audit(perdure, "Ledger/a/b c") == [("ann", "discard", "bug 4711")]


def test_what_waits_for_its_retry_is_tried_at_once(live, perdure):
    live.send(Flaky, "x", Begun("x"))
    live.runtime.ref(Flaky, "x").tell(Shaky("x", 7, fails=1))
    live.do(live.runtime.settled())
    assert "runtime-test.shaky" in perdure("instances", "why", "Flaky/x")
    perdure("retry", "Flaky/x", *WHY)
    live.do(live.runtime.settled())
    shown = perdure.document("instances", "show", "Flaky/x")
    assert shown["waiting"] == 0
    assert audit(perdure, "Flaky/x") == [("ann", "retry", "bug 4711")]


def test_many_are_shown_first_and_done_only_with_yes(live, perdure, monkeypatch):
    for n in range(5):
        live.send(Ledger, f"i-{n}", Opened(f"i-{n}"))
    selected = ("cancel", "--saga", "Ledger", "--status", "running", *WHY)
    assert len(perdure.rows(*selected, "--dry-run")) == 5
    perdure(*selected, exits=2)
    assert "Ledger/i-4: would be: " in perdure.err
    assert "add --yes" in perdure.err
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("typer.confirm", lambda question, err: False)
    perdure(*selected, exits=1)
    assert "you said no" in perdure.err
    assert perdure.rows("instances", "count")[0]["running"] == 5
    assert "5 of 5 done" in perdure(*selected, "--yes")
    assert perdure.rows("instances", "count") == [{"saga": "Ledger", "failed": 5}]
    assert "no such instances" in perdure(*selected, "--yes") + perdure.err
    perdure("cancel", "Ledger/i-0", *WHY, exits=4)
    assert "error: " in perdure.err
    perdure("cancel", "Ledger/i-0", "Ledger/i-1", *WHY, "--yes", exits=4)
    perdure("cancel", "Ledger/i-0", "Ledger/i-1", *WHY, exits=4)


@pytest.mark.parametrize(
    ("words", "exits"),
    [
        (("retry", "Ledger/x"), 2),  # no why
        (("retry", *WHY), 2),  # nothing named
        (("retry", "Ledger/x", "--saga", "Ledger", *WHY), 2),
        (("retry", "x", *WHY), 2),
        (("retry", "Ledger/nobody", *WHY), 3),
        (("retry", "Nobody/x", *WHY), 3),
        (("retry", "Ledger/x", "--why", " "), 2),
        (("retry", "Ledger/x", "--why", "\x1b[2J"), 2),
        (("retry", "Ledger/x", *WHY), 4),  # nothing waits
        (("release", "Ledger/x", *WHY), 4),  # not quarantined
        (("skip", "Ledger/x", "step", *WHY), 4),  # it has no steps
        (("restart", "Ledger/x", "step", *WHY), 4),
        (("done", "Ledger/x", "Ledger/x/9/0", *WHY), 4),
        (("deadline", "cancel", "Ledger/x", "none", *WHY), 4),
        (("deadline", "set", "Ledger/x", "none", "soon", *WHY), 2),
        (("deadline", "set", "Ledger/x", "none", "2030-01-01T00:00:00Z", *WHY), 4),
        (("dead", "redrive", "77", *WHY), 4),
        (("dead", "redrive", *WHY), 2),
        (("dead", "redrive", "1", "2", "--data", "{}", *WHY), 2),
        (("queue", "pause", "nobody", *WHY), 3),
        (("queue", "cancel-job", "nobody", "j"), 3),
        (("send", "Ledger/x", "nothing", "{}"), 4),
        (("send", "Nobody/x", "runtime-test.opened", '{"id": "x"}'), 3),
        (("publish",), 2),
        (("enqueue", "runtime-test.ship", '{"id": "x", "n": 1}'), 4),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused_and_changes_nothing(live, perdure, words, exits):
    live.send(Ledger, "x", Opened("x"))
    perdure(*words, exits=exits)
    assert perdure.err
    assert "\x1b" not in perdure.err
    assert perdure.document("instances", "show", "Ledger/x")["sequence_nr"] == 1


def test_two_operators_at_once_do_it_once(live, perdure):
    dead_letters(live)
    codes: list[int] = []

    def operate() -> None:
        words = ["dead", "discard", "1", *WHY, "--store", str(perdure.path)]
        codes.append(main(words))

    operators = [threading.Thread(target=operate) for _ in range(4)]
    for one in operators:
        one.start()
    for one in operators:
        one.join()
    assert sorted(codes) == [0, 4, 4, 4]
    assert audit(perdure, "Ledger/x") == [("ann", "discard", "bug 4711")]


def test_what_has_moved_since_it_was_seen_is_left_alone(live, perdure):
    live.send(Ledger, "x", Opened("x"), Added("x", 1))
    words = ("skip", "Ledger/x", "step", *WHY, "--expected", "1")
    perdure(*words, "--json", exits=4)
    assert json.loads(perdure.err)["error"]["type"] in ("InstanceMoved", "NotRepairable")


def test_who_it_was_is_the_user_of_the_system_if_nobody_says(live, perdure, monkeypatch):
    dead_letters(live)
    monkeypatch.delenv("PERDURE_BY")
    monkeypatch.setenv("SUDO_USER", "bob")
    perdure("dead", "discard", "1", *WHY)
    monkeypatch.delenv("SUDO_USER")
    monkeypatch.setenv("LOGNAME", "eve")
    perdure("dead", "discard", "2", *WHY)
    perdure("dead", "discard", "3", *WHY, "--by", "carl")
    who = [audit(perdure, f"Ledger/{id}")[0][0] for id in ("x", "a/b c", "ü")]
    assert who == ["bob", "eve", "carl"]


def test_a_stopped_store_is_repaired_by_a_runtime_made_here(perdure):
    filled(perdure.path, dead_letters)
    perdure("dead", "discard", "1", *WHY, exits=5)
    assert "no runtime holds" in perdure.err
    assert "--app" in perdure.err
    perdure("dead", "discard", "1", *WHY, "--app", "tests.ops.cli.apps:ledgers")
    perdure("dead", "discard", "2", *WHY, "--app", "tests.ops.cli.apps:later")
    assert [row["id"] for row in perdure.rows("dead", "list")] == [3]
    perdure("dead", "discard", "3", *WHY, "--app", "tests.ops.cli.apps:over")  # the URL of --store
    assert audit(perdure, "Ledger/x") == [("ann", "discard", "bug 4711")]
    assert [row["id"] for row in perdure.rows("dead", "list")] == []
    assert not os.path.exists(f"{perdure.path}.control")


def test_an_app_over_another_store_is_refused(perdure, tmp_path, monkeypatch):
    filled(perdure.path, dead_letters)
    monkeypatch.setenv("TESTED_STORE", str(tmp_path / "other.db"))
    perdure("dead", "discard", "1", *WHY, "--app", "tests.ops.cli.apps:ledgers", exits=2)
    assert "give one of them" in perdure.err
    assert not (tmp_path / "other.db").exists()


def test_a_store_held_without_a_socket_is_refused_clearly(perdure):
    with Live(perdure.path, control_socket=False) as live:
        dead_letters(live)
        perdure("dead", "discard", "1", *WHY, exits=5)
        assert f"pid {os.getpid()}" in perdure.err
        perdure("dead", "discard", "1", *WHY, "--app", "tests.ops.cli.apps:ledgers", exits=5)
        assert "is held by pid" in perdure.err
        assert len(perdure.rows("dead", "list")) == 3


def test_a_runtime_whose_loop_is_blocked_is_said_to_be(live, perdure, monkeypatch):
    dead_letters(live)
    monkeypatch.setattr(client, "CONNECT_S", 0.2)
    monkeypatch.setattr(client, "GRACE_S", 0.1)
    freed = threading.Event()
    live.block(freed)
    perdure("dead", "discard", "1", *WHY, exits=5)
    freed.set()
    assert "seems to be held by pid" in perdure.err
    assert len(perdure.rows("dead", "list")) == 3
    perdure("dead", "discard", "1", *WHY)


def test_queues_are_paused_and_resumed_by_hand(perdure):
    from perdure import WorkQueue

    queue = WorkQueue("errands")

    @queue.worker(commands=[Added])
    def run(command: Added) -> None: ...

    with Live(perdure.path, members=[Ledger, queue]):
        perdure("queue", "pause", "errands", "--why", "the provider is down")
        job = perdure.document("enqueue", "runtime-test.added", '{"id": "x", "n": 1}')["job"]
        (seen,) = perdure.rows("queues")
        assert (seen["is_paused"], seen["pause_reason"]) == (True, "the provider is down")
        assert [row["id"] for row in perdure.rows("jobs", "errands")] == [job]
        perdure("queue", "cancel-job", "errands", job)
        perdure("queue", "resume", "errands")


def test_health_has_its_exit_codes(perdure):
    with Live(perdure.path) as live:
        assert perdure.document("health")["status"] == "healthy"
        dead_letters(live)
        assert perdure.document("health", exits=6)["status"] == "warning"
        assert "3 dead letters" in perdure("health", exits=6)
    assert "No runtime holds the store" in perdure("health", exits=7)
    assert perdure.document("health", "--store-only", exits=6)["status"] == "warning"


def test_steps_are_retried_skipped_marked_as_done_and_restarted(perdure):
    shop, saga = Shop(), trip()
    shop.breaks("fly")
    with Live(perdure.path, members=[saga], resources={"shop": shop}) as live:
        for id in ("t/1", "t 2", "t-3", "t-4"):
            live.send(saga, id, Order(id))
        live.do(live.runtime.settled())
        assert "fly" in perdure("instances", "why", "repair.trip/t/1")
        shop.mend()
        perdure("retry", "repair.trip/t/1", *WHY)
        perdure("skip", "repair.trip/t 2", "fly", *WHY)
        words = ("done", "repair.trip/t-3", "fly", *WHY, "--result", '{"seat": "7a"}')
        assert "would be" in perdure(*words, "--dry-run")
        perdure(*words)
        assert "once 'fly' has ended" in perdure("compensate", "repair.trip/t-4", *WHY)
        perdure("retry", "repair.trip/t-4", *WHY)
        perdure("deadline", "set", "repair.trip/t-4", "none", "2030-01-01T00:00:00Z", *WHY, exits=4)
        live.do(live.runtime.settled())
        (counted,) = perdure.rows("instances", "count")
        assert counted == {"saga": "repair.trip", "completed": 3, "failed": 1}
        perdure("restart", "repair.trip/t-4", "fly", *WHY, exits=4)
        assert "restart from 'book'" in perdure.err
        perdure("restart", "repair.trip/t-4", "book", *WHY)
        live.do(live.runtime.settled())
        assert perdure.rows("instances", "count") == [{"saga": "repair.trip", "completed": 4}]
    done = perdure.document("instances", "show", "repair.trip/t-3")["state"]
    assert "7a" in json.dumps(done)
    acts = [action for _, action, _ in audit(perdure, "repair.trip/t-4")]
    assert acts == ["compensate", "retry", "restart_from"]


def test_quarantined_instances_are_found_and_released_together(perdure):
    with Live(perdure.path, members=[Quarantined]) as live:
        for id in ("a", "b/c", "d"):
            live.send(Quarantined, id, Born(id))
            live.runtime.ref(Quarantined, id).tell(Hit(id, 1, fails=int(id != "d")))
        live.do(live.runtime.settled())
        aside = perdure.rows("instances", "list", "--quarantined")
        listed = perdure("instances", "list", "--quarantined").splitlines()[1:]
        assert [line.split()[1] for line in listed] == [row["reason"] for row in aside]
        assert [row["instance"] for row in aside] == ["Quarantined/a", "Quarantined/b/c"]
        assert "quarantined" in perdure("instances", "show", "Quarantined/b/c")
        assert perdure.document("health", exits=6)["status"] == "warning"
        done = perdure.rows("release", "--quarantined", *WHY, "--yes")
        assert [row["ok"] for row in done] == [True, True]
        live.do(live.runtime.settled())
        assert perdure.rows("instances", "list", "--quarantined") == []
        assert audit(perdure, "Quarantined/b/c") == [("ann", "release", "bug 4711")]
        perdure("release", "Quarantined/a", *WHY, exits=4)


def test_a_runtime_that_stops_by_itself_is_a_failure(perdure, capsys, caplog):
    assert main(["run", "tests.ops.cli.apps:stopping"]) == 1
    assert "the runtime has stopped by itself" in caplog.text
    with Live(perdure.path):
        assert main(["run", "tests.ops.cli.apps:ledgers"]) == 5
    assert "is held by pid" in capsys.readouterr().err
    assert main(["run", "tests.ops.cli.apps:ledgers", "--log-level", "loud"]) == 2
    assert main(["run", "nowhere:runtime"]) == 2
