"""Commands that look: what they show of a store, live or not, and without its code."""

from __future__ import annotations

import json
import logging
import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from perdure.errors import HandlerFailed
from tests.ops.cli.support import Command, Live, filled
from tests.sagas import Added, Alarm, Armed, Basket, Closed, Filled, Ledger, Opened, Struck

ESCAPES = "\x1b[2J\x1b]0;owned\x07"
TURNED = "\u202eexe.\u2066x"
IDS = [
    "plain",
    "a/b/../c",
    "with space",
    "--help",
    "-x",
    "注文 ü",
    f"esc{ESCAPES}",
    TURNED,
    "[red]",
]


def ledgers(live: Live) -> None:
    for id in IDS:
        live.send(Ledger, id, Opened(id), Added(id, 1))
    live.send(Ledger, "plain", Added("plain", 2), Closed("plain"))


@pytest.fixture(scope="module")
def file_of_ledgers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ledgers") / "store.db"
    filled(path, ledgers)
    return path


@pytest.fixture
def store(perdure: Command, file_of_ledgers: Path) -> Command:
    shutil.copy(file_of_ledgers, perdure.path)
    return perdure


def test_instances_are_listed_for_people_and_for_programs(store):
    listed = store("instances", "list", "Ledger")
    assert "Ledger/a/b/../c" in listed
    assert re.search(r"^Ledger/with space +running ", listed, re.MULTILINE)
    found = store.rows("instances", "list")
    assert {row["correlation_id"] for row in found} == set(IDS)
    assert {row["instance"] for row in found} == {f"Ledger/{id}" for id in IDS}
    (closed,) = store.rows("instances", "list", "--status", "completed")
    assert (closed["instance"], closed["status"]) == ("Ledger/plain", "completed")


def test_listings_go_on_where_they_ended(store):
    first = store.rows("instances", "list", "--limit", "4")
    assert "4 shown; more: --after " in store.err
    rest = store.rows("instances", "list", f"--after={first[-1]['instance']}")
    assert len(first + rest) == len(IDS)
    assert len({row["instance"] for row in first + rest}) == len(IDS)


@pytest.mark.parametrize("command", ["show", "history", "why"])
def test_any_id_is_found_and_nothing_of_it_reaches_the_terminal_raw(store, command):
    for id in IDS:
        words = ("instances", command, f"Ledger/{id}")
        shown = store(*words) + store.err
        assert not set(shown) & set("\x1b\x07\x9b\u202e\u2066")
        assert store.rows(*words)
        assert store.out.isascii()


def test_the_history_tells_what_came_of_each_turn(store):
    shown = store("instances", "history", "Ledger/plain")
    assert shown.splitlines()[0].split() == ["turn", "at", "message", "outcome", "what", "came",
                                             "of", "it"]  # fmt: skip
    assert "runtime-test.ship to " in shown
    found = store.rows("instances", "history", "Ledger/plain")
    assert [row["sequence_nr"] for row in found] == [1, 2, 3, 4]
    assert found[1]["message"] == {"$type": "runtime-test.added", "id": "plain", "n": 1}
    one = store.document("instances", "history", "Ledger/plain", "--turn", "2")
    assert one["sequence_nr"] == 2
    assert "Doubled" not in store("instances", "history", "Ledger/plain", "--turn", "2")


def test_what_is_not_there_is_said_with_its_own_exit_code(store):
    for words in [
        ("instances", "show", "Ledger/nobody"),
        ("instances", "history", "Ledger/nobody"),
        ("instances", "why", "Ledger/nobody"),
        ("instances", "show", "Nobody/x"),
        ("dead", "show", "7"),
        ("instances", "show", "Ledger/plain", "--at", "2001-01-01T00:00:00Z"),
    ]:
        assert store(*words, exits=3) == ""
        assert store.err.count("error: ") == 1
    store("instances", "show", "Ledger/nobody", "--json", exits=3)
    assert store.out == ""
    assert json.loads(store.err)["error"]["type"] == "InstanceNotFound"


@pytest.mark.parametrize(
    "words",
    [
        ("instances", "show", "no-slash"),
        ("instances", "show", "/x"),
        ("instances", "list", "--status", "dead"),
        ("instances", "show", "Ledger/plain", "--at", "yesterday"),
        ("deadlines", "--before", "soon"),
        ("nothing",),
        ("instances", "list", "--limit", "0"),
        ("instances", "show", "Ledger/\udcff"),  # a byte of argv that is no UTF-8
        ("instances", "history", "Ledger/plain", "--after", str(2**63)),
        ("dead", "show", str(2**63)),
    ],
)
def test_wrong_usage_is_said_with_its_own_exit_code(store, words):
    store(*words, exits=2)
    assert store.err


def test_an_instance_is_shown_with_its_code_and_without(store, monkeypatch):
    without = store.document("instances", "show", "Ledger/with space")
    assert without["state"] is None
    app = ("--app", "tests.ops.cli.apps:ledgers")
    shown = store.document("instances", "show", "Ledger/with space", *app)
    assert shown["state"] == {"items": [1], "doubled": 2, "status": "open"}
    then = store.document("instances", "show", "Ledger/with space", "--at", "1", *app)
    assert then["state"] == {"items": [], "doubled": 0, "status": "open"}
    assert "not folded" in store("instances", "show", "Ledger/with space")


def test_the_code_that_cannot_be_had_is_named(store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken_app.py").write_text("raise ValueError('\x1b[2J half')")
    for app, said in [
        ("nowhere", "names no attribute"),
        ("nowhere:runtime", "No module named 'nowhere'"),
        ("broken_app:runtime", r"\x1b[2J half"),
        ("tests.ops.cli.apps:nothing", "there is no 'nothing'"),
        ("tests.ops.cli.apps:NUMBER", "is a int, no Runtime"),
        ("tests.ops.cli.apps:raising", "makes no runtime: RuntimeError: not today"),
    ]:
        store("instances", "show", "Ledger/plain", "--app", app, exits=2)
        assert said in store.err
        assert "\x1b" not in store.err


def test_code_that_is_broken_tonight_does_not_keep_anybody_from_looking(store, monkeypatch):
    monkeypatch.setenv("PERDURE_APP", "nowhere:runtime")
    assert "completed" in store("instances", "show", "Ledger/plain")
    assert "shown without your code: the module of 'nowhere:runtime' cannot be" in store.err
    store("instances", "show", "Ledger/plain", "--app", "elsewhere:runtime", exits=2)


def test_hostile_and_huge_payloads_are_shown_safely_and_in_part(perdure, caplog):
    caplog.set_level(logging.CRITICAL, "perdure")
    items = list(range(90_000))

    def fill(live: Live) -> None:
        live.send(Basket, "big", Filled("big", items))
        live.send(Ledger, "bad", Opened("bad"))
        with pytest.raises(HandlerFailed):
            live.send(Ledger, "bad", Struck("bad", "error"))
        with pytest.raises(HandlerFailed):
            live.send(Ledger, "bad", Struck("bad", (ESCAPES + TURNED) * 500_000))

    filled(perdure.path, fill, members=[Basket, Ledger], message_bytes_max=2**24)
    app = ("--app", "tests.ops.cli.apps:baskets")
    shown = perdure("instances", "show", "Basket/big", *app)
    assert "characters in all)" in shown
    assert len(shown) < 10_000
    assert len(perdure("instances", "show", "Basket/big", "--full", *app)) > 20_000
    assert perdure.document("instances", "show", "Basket/big", *app)["state"]["items"][:2] == [0, 1]
    looks = [(command, "Ledger/bad") for command in ("show", "why")]
    for words in [
        ("dead", "list"),
        ("dead", "show", "2"),
        *(("instances", *one) for one in looks),
    ]:
        said = perdure(*words) + perdure.err
        assert len(said) < 30_000
        assert not set(said) & set("\x1b\x07\u202e\u2066")
    assert r"\x1b[2J" in perdure("dead", "show", "2")
    assert [row["reason"] for row in perdure.rows("dead", "list")] == ["ValueError", "KeyError"]
    assert perdure.document("dead", "show", "2")["content"]["how"].startswith(ESCAPES + TURNED)


def test_damaged_rows_are_told_of_and_hide_no_others(store):
    with closing(sqlite3.connect(store.path)) as connection, connection:
        connection.execute("UPDATE journal SET body = x'00' WHERE instance = 'Ledger/plain'")
    store("instances", "history", "Ledger/plain", exits=5)
    assert "error: " in store.err
    assert "problem" in store("instances", "show", "Ledger/plain")
    assert len(store.rows("instances", "list")) == len(IDS)


def test_a_live_store_is_looked_at_while_it_is_written(perdure):
    with Live(perdure.path) as live:
        ledgers(live)
        assert len(perdure.rows("instances", "list")) == len(IDS)
        live.send(Ledger, "later", Opened("later"))
        assert perdure.document("instances", "show", "Ledger/later")["sequence_nr"] == 1
        found = perdure.rows("instances", "count")
        assert found == [{"saga": "Ledger", "running": len(IDS), "completed": 1}]


def test_deadlines_queues_and_what_waits(perdure):
    def fill(live: Live) -> None:
        live.send(Alarm, "x", Armed("x", "a", 3600), Armed("x", "b", 60))
        live.send(Ledger, "nobody", Added("nobody", 1))  # parked
        live.send(Ledger, "y", Opened("y"), Added("y", 1))

    filled(perdure.path, fill, members=[Alarm, Ledger])
    assert [row["name"] for row in perdure.rows("deadlines")] == ["b", "a"]
    assert "Alarm/x" in perdure("deadlines", "--saga", "Alarm", "--limit", "1")
    assert perdure.rows("deadlines", "--before", "2020-01-01T00:00:00Z") == []
    (waiting,) = perdure.rows("inbox")
    assert (waiting["instance"], waiting["reason"]) == ("Ledger/nobody", "missing")
    assert perdure.rows("schedules") == []
    assert perdure("queues") is not None


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: None, "there is no file"),
        (lambda path: path.write_bytes(b"not a database, but long enough " * 40), "database"),
        (lambda path: sqlite3.connect(path).execute("CREATE TABLE x (y)").connection.close(), ""),
        (lambda path: path.mkdir(), "there is no file"),
    ],
)
def test_what_is_no_store_is_refused_clearly(perdure, make, said):
    make(perdure.path)
    for words in [("instances", "list"), ("health",), ("retry", "A/b", "--why", "x")]:
        perdure(*words, exits=5)
        assert said in perdure.err or words[0] == "retry"


def test_a_store_of_a_newer_perdure_is_refused_clearly(store):
    with closing(sqlite3.connect(store.path)) as connection, connection:
        connection.execute("UPDATE meta SET schema_version = 999")
    store("instances", "list", exits=5)
    assert "schema version 999" in store.err


def test_a_store_must_be_named_and_be_a_file(perdure, monkeypatch, capsys):
    from perdure.ops.cli import main

    monkeypatch.delenv("PERDURE_STORE", raising=False)
    assert main(["instances", "list"]) == 2
    assert "give --store, or set PERDURE_STORE" in capsys.readouterr().err
    assert main(["instances", "list", "--store", "memory://"]) == 2
    assert main(["instances", "list", "--store", "mysql://x/y"]) == 2


def test_the_environment_names_the_store(store, monkeypatch, capsys):
    from perdure.ops.cli import main

    monkeypatch.setenv("PERDURE_STORE", f"sqlite+aiosqlite:///{store.path}")
    assert main(["instances", "count", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["running"] == len(IDS) - 1


def test_instances_are_found_by_age_and_by_what_is_indexed(store):
    assert store.rows("instances", "list", "Ledger", "--idle-for", "1h") == []
    assert len(store.rows("instances", "list", "Ledger", "--older-than", "0s")) == len(IDS)
    for words in [
        ("Ledger", "--where", "items=1"),
        ("Ledger", "--where", "items"),
        ("Ledger", "--idle-for", "long"),
        ("--idle-for", "1h"),
        ("--quarantined", "--status", "running"),
    ]:
        store("instances", "list", *words, exits=2)
    assert store.rows("instances", "list", "--quarantined") == []


def test_a_misspelt_saga_is_told_from_one_without_instances(store):
    assert store.rows("instances", "list", "ledger") == []
    assert "no instances; nothing here is of 'ledger', only of Ledger" in store.err
    store("retry", "--saga", "ledger", "--why", "typo", exits=3)
    assert "no such instances; nothing here is of 'ledger', only of Ledger" in store.err
    store("instances", "list", "Ledger", "--status", "stuck")
    assert store.err == "no instances\n"


def test_the_next_page_is_named_as_a_shell_takes_it(store):
    limit = 1 + [row["correlation_id"] for row in store.rows("instances", "list")].index(
        "with space"
    )
    store("instances", "list", "--limit", str(limit))
    assert store.err == f"{limit} shown; more: --after 'Ledger/with space'\n"


def test_a_turn_that_was_not_taken_is_told_from_an_instance(store):
    store("instances", "history", "Ledger/plain", "--turn", "99", exits=3)
    assert "history without --turn lists the turns" in store.err
