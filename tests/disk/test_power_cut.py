"""The power goes off: with FULL nothing acknowledged is lost, and no turn is there by half."""

from __future__ import annotations

import pytest

from tests.disk.tracing import strace
from tests.power_cut import cuts, record

pytestmark = pytest.mark.skipif(bool(strace()), reason=strace() or "-")


def test_what_was_acknowledged_survives_a_power_cut(tmp_path):
    done = cuts(record(tmp_path / "disk", "FULL", turns=60), points=25)
    assert done.turns == 65
    assert not done.wrong
    assert done.losing == {"none": 0, "torn": 0}


def test_the_method_sees_a_loss_where_commits_do_not_wait_for_the_disk(tmp_path):
    done = cuts(record(tmp_path / "disk", "NORMAL", turns=60), points=25)
    assert not done.wrong
    assert done.losing["none"] > 0
    assert done.worst > 1
