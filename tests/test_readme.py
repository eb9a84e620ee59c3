"""What the README shows runs as printed and prints what it says."""

import re
import subprocess
import sys
from pathlib import Path

from tests import warm

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, re.DOTALL)


def test_the_complete_example_prints_what_the_readme_says(tmp_path: Path) -> None:
    program = BLOCKS[0][1]
    printed = next(text for language, text in BLOCKS if language == "")
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout == printed


def test_the_snippet_for_tests_is_a_test_that_passes(tmp_path: Path) -> None:
    definitions = BLOCKS[0][1].split("async def main")[0]
    snippet = next(text for _, text in BLOCKS if "SimulatedClock()" in text)
    program = f"{definitions}\n{snippet}\nasyncio.run(test_an_unpaid_order_fails())\n"
    done = warm.run("-c", program, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_snippet_for_simulations_is_a_test_that_passes(tmp_path: Path) -> None:
    definitions = BLOCKS[0][1].split("async def main")[0]
    snippet = next(text for _, text in BLOCKS if "crash_everywhere()" in text)
    program = f"{definitions}\n{snippet}\ntest_an_order_survives()\n"
    done = warm.run("-c", program, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_trip_prints_what_the_readme_says(tmp_path: Path) -> None:
    number = next(n for n, (_, text) in enumerate(BLOCKS) if "OrderedSaga(" in text)
    done = warm.run("-c", BLOCKS[number][1], cwd=tmp_path)
    assert done.stdout == BLOCKS[number + 1][1]


def test_the_money_transfer_prints_what_the_readme_says() -> None:
    done = warm.run(ROOT / "examples" / "money_transfer.py")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout in [text for language, text in BLOCKS if language == ""]


def test_the_two_commands_are_the_ones_ci_runs() -> None:
    commands = [text for language, text in BLOCKS if language == "sh"][:2]
    assert "examples/order_fulfilment.py" in commands[0]
    assert "python -m pytest -q -n auto --dist worksteal" in commands[1]
    assert commands[1].split("&& ")[-1].split("bin/")[1].strip() in (ROOT / ".ci/run").read_text()
