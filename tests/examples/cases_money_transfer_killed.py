"""money_transfer_killed.py: its plan, and that its check finds what is off."""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

import money_transfer_killed as killed

SMALL = ["--transfers", "20", "--failing", "0.25", "--kills", "0"]


def options(directory: Path, *more: str) -> argparse.Namespace:
    return killed.options_of([*SMALL, "--directory", str(directory), *more])


def complaints(of: argparse.Namespace) -> list[str]:
    """What the check says of the two files as they are."""
    return killed.complaints(of, {**killed.books(of), **asyncio.run(killed.sagas(of))})


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a small run in which nobody was killed."""
    directory = tmp_path_factory.mktemp("done")
    assert killed.main([*SMALL, "--directory", str(directory)]) == 0
    return directory


def test_the_plan_is_the_same_in_every_process(tmp_path: Path) -> None:
    first, again = (killed.planned(options(tmp_path)) for _ in range(2))
    assert first == again != killed.planned(options(tmp_path, "--seed", "2"))
    assert len({one.transfer_id for one in first}) == 20
    assert sum(one.target.startswith("closed") for one in first) == 5
    assert all(one.source != one.target for one in first)


def test_a_run_without_kills_is_in_order(
    done: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert killed.main([*SMALL, "--directory", str(tmp_path / "new"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["debited"], found["credited"], found["refunded"]) == (20, 15, 5)
    assert (found["lost"], found["doubled"], found["asked again"]) == (0, 0, 0)
    assert complaints(options(done)) == []


def test_files_of_an_earlier_run_are_left_alone(
    done: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert killed.main([*SMALL, "--directory", str(done)]) == 1
    assert "is of an earlier run" in capsys.readouterr().err


AGAIN = """INSERT INTO entries SELECT key || '/again', transfer, kind, account, cents, 1
           FROM entries WHERE kind = '{}' LIMIT 1"""


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (AGAIN.format("debit"), "doubled: 1"),
        (AGAIN.format("credit"), "doubled: 1"),
        (AGAIN.format("refund"), "doubled: 1"),
        (
            "UPDATE entries SET kind = 'refund' WHERE key = (SELECT key FROM entries"
            " WHERE kind = 'credit' LIMIT 1)",
            "refunded: 6",
        ),
        (
            "DELETE FROM entries WHERE key ="
            " (SELECT key FROM entries WHERE kind = 'credit' LIMIT 1)",
            "lost: 1",
        ),
        ("DELETE FROM entries WHERE kind = 'refund'", "lost: 5"),
        ("DELETE FROM entries WHERE transfer = 't-00003'", "lost: 1"),
        ("UPDATE entries SET transfer = 't-99999' WHERE transfer = 't-00003'", "unknown: 1"),
        (
            "UPDATE entries SET account = 'open-00' WHERE kind = 'credit' AND account <> 'open-00'",
            "not as planned: ",
        ),
        (
            "UPDATE accounts SET cents = cents + 1 WHERE name = 'open-01'",
            "money at last: ",
        ),
        (
            "UPDATE accounts SET cents = cents + CASE name WHEN 'open-01' THEN 1 ELSE -1 END"
            " WHERE name IN ('open-01', 'open-02')",
            "balances not the sum of their entries: 2",
        ),
        ("UPDATE accounts SET cents = cents - 1 WHERE name = 'fees'", "of it fees: "),
    ],
)
def test_the_check_finds_what_is_off_in_the_bank(
    done: Path, tmp_path: Path, damage: str, found: str
) -> None:
    shutil.copytree(done, tmp_path / "copy")
    of = options(tmp_path / "copy")
    with closing(sqlite3.connect(killed.bank_of(of), isolation_level=None)) as bank:
        assert bank.execute(damage).rowcount >= 1
    assert [one for one in complaints(of) if one.startswith(found)], complaints(of)


@pytest.mark.parametrize(
    ("names", "is_whole", "is_doubled"),
    [
        (["debit", "credit"], True, False),
        (["debit", "refund", "fee"], True, False),
        (["debit"], False, False),
        (["credit"], False, False),
        ([], False, False),
        (["debit", "credit", "refund", "fee"], True, True),
        (["debit", "debit", "credit"], True, True),
        (["debit", "refund", "refund", "fee"], True, True),
        (["debit", "refund", "fee", "fee"], True, True),
    ],
)
def test_whole_and_doubled(names: list[str], is_whole: bool, is_doubled: bool) -> None:
    kinds = Counter(names)
    assert (killed.is_whole(kinds), killed.is_doubled(kinds)) == (is_whole, is_doubled)


@pytest.mark.parametrize(
    "nonsense", [["--transfers", "0"], ["--failing", "1.1"], ["--kills", "21"]]
)
def test_nonsense_is_refused(nonsense: list[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        options(tmp_path, *nonsense)
