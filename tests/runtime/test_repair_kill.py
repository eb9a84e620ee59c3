"""``kill -9`` at each point of a repair: it is there with all that goes with it, or not at all."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.repair_child import ALL, LETTERS, POINTS

ROOT = Path(__file__).parents[2]
WRITTEN = ("K7", "K8")
ENDS = ("status", "audit", "state", "did")


@pytest.mark.slow
def test_repairs_that_are_killed_are_done_once_when_they_are_repeated(tmp_path):
    command = [sys.executable, "-m", "tests.runtime.repair_child", str(tmp_path)]
    child = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert child.returncode == 0, child.stderr
    found: dict[str, dict[str | None, dict[str, Any]]] = defaultdict(dict)
    for line in child.stdout.splitlines():
        said = json.loads(line)
        found[said["name"]][said["point"]] = said
    assert list(found) == list(ALL)
    for name, lives in found.items():
        assert set(lives) == set(POINTS)
        whole = lives.pop(None)
        assert (whole["killed"], whole["code"], len(whole["audit"])) == (False, 0, 1), whole
        for point, said in lives.items():
            assert (said["killed"], said["code"]) == (True, 0), said
            assert [said[end] for end in ENDS] == [whole[end] for end in ENDS], said
            assert said["turns"] == (point in WRITTEN), said
            assert point in WRITTEN or not said["changed"], said
            assert point not in WRITTEN or name not in LETTERS or said["changed"], said
