"""Runs the ``cases_*.py`` beside it, each in a process of its own, as pytest runs tests.

They import the examples, whose message classes have plain names such as ``OrderPlaced``: a runtime
of another test in the same process could not tell them from its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
PATHS = [path for path in [os.environ.get("PYTHONPATH")] if path]
"""Where the sources are, if they are not those that are installed."""

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs signals")


@pytest.mark.parametrize("cases", sorted(HERE.glob("cases_*.py")), ids=lambda path: path.stem)
def test_cases(cases: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(cases)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "examples"), *PATHS])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
