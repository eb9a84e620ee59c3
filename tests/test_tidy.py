"""The style the project agreed on, as a test. Limits only ever go down."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = sorted((ROOT / "src").rglob("*.py"))
MODULE_LINES_MAX = 340
FUNCTION_LINES_MAX = 45
UNWANTED_NAMES = re.compile(r"(Manager|Helper|Util)")
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")


def name_of(path):
    return str(path.relative_to(ROOT / "src"))


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_says_what_it_is_for_and_stays_small(path):
    text = path.read_text()
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "no module docstring"
    assert text.count("\n") <= MODULE_LINES_MAX
    assert not UNFINISHED.search(text)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_functions_stay_small_and_public_things_are_documented(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            docstring = len((ast.get_docstring(node) or "").splitlines())
            assert lines - docstring <= FUNCTION_LINES_MAX, f"{node.name} has {lines} lines"
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"class {node.name} has no docstring"
            if node.name != "ProcessManager":
                assert not UNWANTED_NAMES.search(node.name), node.name
