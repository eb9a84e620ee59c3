"""The documents name tests and modules that exist."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
SOURCES = (ROOT / "docs" / "sources.md").read_text()


def names_in(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    return {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
    }


def test_every_test_named_in_the_sources_exists() -> None:
    named = re.findall(r"`([\w/]+\.py)::([\w:]+)`", SOURCES)
    assert len(named) > 50
    shipped = set().union(*map(names_in, (ROOT / "src/perdure/testing").glob("store_contract*.py")))
    for file, test in named:
        path = ROOT / "tests" / file
        assert set(test.split("::")) <= names_in(path) | shipped, f"{file}::{test}"


def test_every_item_of_this_release_has_its_row() -> None:
    wanted = [f"S0.{n}" for n in range(1, 38)]
    wanted += [f"S3.{n}" for n in range(6, 21)] + [f"S4.{n}" for n in range(1, 28)]
    rows = re.findall(r"^\| (S\d\.\d+) \|", SOURCES, re.MULTILINE)
    assert sorted(rows) == sorted(wanted)
