"""The documents name tests and modules that exist, and the guides run as printed."""

import ast
import functools
import json
import os
import re
from pathlib import Path

import pytest

from perdure.describing import RULES
from perdure.failpoints import Point
from perdure.store import postgres_schema, schema
from tests import report_card, warm
from tests.test_layers import MAY_IMPORT

ROOT = Path(__file__).parent.parent
SOURCES = (ROOT / "docs" / "sources.md").read_text()
GUARANTEES = (ROOT / "docs" / "guarantees.md").read_text()
NO_GUIDES = {"sources.md", "guarantees.md"}
GUIDES = sorted(path for path in (ROOT / "docs").glob("*.md") if path.name not in NO_GUIDES)


def blocks_of(guide: Path) -> list[tuple[str, str]]:
    """The pieces of code, with their languages."""
    return re.findall(r"^```(\w*)\n(.*?)^```", guide.read_text(), re.DOTALL | re.MULTILINE)


def needs_server(guide: Path) -> bool:
    """It runs over PostgreSQL."""
    return any(
        "POSTGRES_URL" in text for language, text in blocks_of(guide) if language == "python"
    )


@functools.cache
def names_in(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    return {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
    }


@pytest.mark.parametrize(("text", "at_least"), [(SOURCES, 50), (GUARANTEES, 35)], ids=["s", "g"])
def test_every_named_test_exists(text: str, at_least: int) -> None:
    named = re.findall(r"`([\w/]+\.py)::([\w:]+)`", text)
    assert len(named) > at_least
    shipped = set().union(*map(names_in, (ROOT / "src/perdure/testing").glob("store_contract*.py")))
    for file, test in named:
        path = ROOT / "tests" / file
        assert set(test.split("::")) <= names_in(path) | shipped, f"{file}::{test}"


def test_every_item_of_the_sources_has_its_row() -> None:
    wanted = [f"S0.{n}" for n in range(1, 98)]
    wanted += [f"S1.{n}" for n in range(1, 25)] + [f"S2.{n}" for n in range(1, 43)]
    wanted += [f"S3.{n}" for n in range(1, 68)]
    wanted += [f"S4.{n}" for n in range(1, 40)]
    rows = re.findall(r"^\| (S\d\.\d+) \|", SOURCES, re.MULTILINE)
    assert sorted(rows) == sorted(wanted)


def test_every_guarantee_has_its_row_and_every_point_its_place() -> None:
    rows = re.findall(r"^\| (G\d+) \|", GUARANTEES, re.MULTILINE)
    assert rows == [f"G{n}" for n in range(1, 28)]
    assert set(re.findall(r"\| (K\d+) \|", GUARANTEES)) == set(Point)


def test_what_was_survived_is_written_as_it_was_counted() -> None:
    found = json.loads(report_card.JSON_FILE.read_text())
    assert report_card.table(found) in GUARANTEES
    assert not any(found["checks"].values())
    assert not found["missing"]
    assert found["mutants"]["planted"] == found["mutants"]["caught"] > 10


def test_every_module_and_name_in_the_sources_exists() -> None:
    """As "`file.py` `Name.attribute`, `Other`", in the column that says where an idea lives."""
    rows = re.findall(r"^\| S\d\.\d+ \|[^|]*\|([^|]*)\|", SOURCES, re.MULTILINE)
    named = re.findall(r"`([\w/-]+\.(?:py|md))`((?:,? `[\w.]+`(?!\s*::))*)", " ".join(rows))
    assert len(named) > 100
    for file, names in named:
        path = next((p for p in (ROOT / "src/perdure" / file, ROOT / file) if p.is_file()), None)
        assert path is not None, file
        words = set(re.findall(r"\w+", path.read_text()))
        for name in re.findall(r"`([\w.]+)`", re.sub(r"`[\w/-]+\.(py|md)`", "", names)):
            assert set(name.split(".")) <= words, f"{file} {name}"


@pytest.mark.parametrize(
    "guide", [one for one in GUIDES if not needs_server(one)], ids=lambda path: path.stem
)
def test_a_guide_prints_what_it_says(guide: Path, tmp_path: Path) -> None:
    """Its pieces of code are one program, its plain blocks what that prints."""
    run_guide(guide, tmp_path)


OVERVIEW = (ROOT / "docs" / "architecture.md").read_text()


def test_the_overview_names_what_there_is() -> None:
    """Modules below the package (in the picture also below ``runtime``), packages, documents."""
    named = set(re.findall(r"(?<![\w/])((?:\w+/)*\w+\.(?:py|md)|(?:\w+/)+)(?!\w)", OVERVIEW))
    assert len(named) > 60
    for one in named:
        places = (ROOT / "src/perdure", ROOT / "src/perdure/runtime", ROOT)
        assert any((place / one).exists() for place in places), one
    assert 100 <= OVERVIEW.count("\n") <= 150


def test_the_overview_tells_which_package_imports_which() -> None:
    rows = re.findall(r"^\| `(\w+)/` \|[^|]*\|([^|]*)\|$", OVERVIEW, re.MULTILINE)
    packages = {path.name for path in (ROOT / "src/perdure").iterdir() if path.is_dir()}
    packages.discard("__pycache__")
    assert {name for name, _ in rows} == packages
    for name, listed in rows:
        assert set(re.findall(r"`(\w+)/`", listed)) == MAY_IMPORT[name] & packages - {name}, name


def test_the_overview_has_every_table_of_both_databases() -> None:
    rows = re.findall(r"^\| `(\w+)` \|[^|]*\| (both|PostgreSQL) \|$", OVERVIEW, re.MULTILINE)
    in_files = {table.name for table in schema.metadata.tables.values()}
    on_servers = {table.name for table in postgres_schema.metadata.tables.values()}
    assert {name for name, where in rows if where == "both"} == in_files
    assert {name for name, _ in rows} == on_servers | in_files


def test_the_drawn_diagram_is_the_one_that_the_guide_prints() -> None:
    blocks = blocks_of(ROOT / "docs" / "describe.md")
    printed = [text for language, text in blocks if not language]
    (drawn,) = (text for language, text in blocks if language == "mermaid")
    assert drawn in printed


def test_every_rule_is_in_the_guide() -> None:
    text = (ROOT / "docs" / "describe.md").read_text()
    assert re.findall(r"^\| `([\w-]+)` \|", text, re.MULTILINE) == list(RULES)


@pytest.mark.parametrize(
    "guide", [one for one in GUIDES if needs_server(one)], ids=lambda path: path.stem
)
def test_a_guide_over_postgresql_prints_what_it_says(
    guide: Path, tmp_path: Path, postgres: str
) -> None:
    """The same of a guide that names ``POSTGRES_URL``: a fresh database with our tables."""
    run_guide(guide, tmp_path, POSTGRES_URL=postgres)


def run_guide(guide: Path, folder: Path, **variables: str) -> None:
    blocks = blocks_of(guide)
    program = "\n".join(text for language, text in blocks if language == "python")
    done = warm.run("-c", program, cwd=folder, env={**os.environ, **variables}, timeout_s=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "".join(text for language, text in blocks if not language)
