"""Imports point one way, and what must stay inside a package stays there."""

import ast
import re
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "perdure"
MODULES = sorted(SOURCE.rglob("*.py"))

MAY_IMPORT = {
    "failpoints": set(),
    "error_base": set(),
    "workflow_errors": {"error_base"},
    "store_errors": {"error_base"},
    "errors": {"error_base", "store_errors", "workflow_errors"},
    "messages": {"errors"},
    "effects": {"messages"},
    "settings": {"errors"},
    "core": {"errors", "messages", "effects", "core"},
    "correlating": {"errors", "messages"},
    "declarations": {"errors", "correlating"},
    "declared": {"errors", "messages", "core", "correlating", "declarations"},
    "saga_checks": {"errors", "core"},
    "process_manager": {"errors", "messages", "effects", "core", "declared", "saga_checks"},
    "approvals": {"errors", "effects", "core", "declarations", "process_manager"},
    "gathering": {"errors"},
    "job": {"errors", "messages", "core"},
    "worker_signature": {"errors", "messages", "core", "job"},
    "queue": {"errors", "core", "job", "worker_signature"},
    "member": {"core", "queue"},
    "step_results": {"errors", "core", "correlating"},
    "ordered_definition": {
        "errors", "messages", "effects", "core", "correlating", "saga_checks", "step_results",
    },
    "workflow_list": {
        "errors", "core", "correlating", "queue", "member", "steps", "step_results",
        "ordered_definition",
    },
    "workflow_checks": {"errors", "messages", "core", "correlating", "steps"},
    "workflow_context": {
        "errors", "messages", "effects", "core", "correlating", "approvals", "workflow_checks",
    },
    "workflow_declaration": {
        "errors", "messages", "core", "correlating", "ordered_definition", "steps",
    },
    "workflow_source": {"errors", "messages", "correlating", "workflow_checks"},
    "workflow_coroutine": {
        "errors", "messages", "effects", "core", "correlating", "queue", "member", "steps",
        "step_results", "workflow_checks", "workflow_context", "workflow_declaration",
        "workflow_source",
    },
    "ordered_saga": {
        "errors", "core", "correlating", "queue", "member", "steps", "step_results",
        "ordered_definition",
    },
    "steps": {"errors", "core", "queue", "worker_signature"},
    "runs": {"messages"},
    "schedule": {
        "errors", "messages", "effects", "core", "saga_checks", "queue", "member", "runs",
    },
    "describing": {
        "errors", "messages", "core", "correlating", "declared", "process_manager", "queue",
        "member", "worker_signature", "schedule", "ordered_saga", "workflow_list",
        "workflow_coroutine", "describing",
    },
    "codec": {"errors", "messages", "core", "codec"},
    "store": {"errors", "failpoints", "core", "codec", "store"},
    "actors": {"actors"},
    "runtime": {
        "errors", "failpoints", "messages", "settings", "core", "codec", "store", "actors",
        "observer", "process_manager", "job", "worker_signature", "queue", "member", "runs",
        "runtime",
    },
    "cluster": {
        "errors", "failpoints", "messages", "settings", "core", "codec", "store", "observer",
        "process_manager", "queue", "member", "runs", "runtime", "cluster",
    },
    "observations": set(),
    "observer": {"observations"},
    "ops": {
        "errors", "messages", "settings", "core", "codec", "store", "observer", "process_manager",
        "queue", "member", "runs", "describing", "runtime", "cluster", "ops",
    },
    "testing": {
        "errors", "failpoints", "messages", "settings", "core", "codec", "store", "actors",
        "runtime", "testing",
    },
}  # fmt: skip

NOT_IN_CORE = {"asyncio", "time", "random", "logging", "threading", "os", "sqlite3"}


def imports_of(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module


def layer_of(path):
    first = path.relative_to(SOURCE).parts[0]
    return first.removesuffix(".py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_point_one_way(path):
    layer = layer_of(path)
    if layer == "__init__":
        return  # the front door shows everything
    for name in imports_of(path):
        parts = name.split(".")
        if parts[0] == "perdure":
            assert len(parts) > 1, f"{path} imports the front door"
            assert parts[1] in MAY_IMPORT[layer], f"{layer} must not import {name}"


@pytest.mark.parametrize("path", sorted((SOURCE / "core").glob("*.py")), ids=lambda path: path.name)
def test_the_core_is_pure(path):
    for name in imports_of(path):
        assert name.split(".")[0] not in NOT_IN_CORE, f"{path.name} imports {name}"
    assert not re.search(r"uuid[1345]|\bnow\(|today\(", path.read_text())


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_what_belongs_to_one_package_is_imported_nowhere_else(path):
    for name in imports_of(path):
        root = name.split(".")[0]
        assert root not in {"pickle", "marshal", "shelve", "dill", "cloudpickle"}
        if root in {"msgpack", "cattrs"}:
            assert layer_of(path) == "codec"
        if root in {"sqlalchemy", "aiosqlite", "asyncpg", "alembic", "sqlite3", "fcntl"}:
            assert layer_of(path) in {"store", "testing"}
        if root == "ray":
            assert path.parent.name == "cluster"
            assert path.name.startswith("ray")
        if root in {"prometheus_client", "opentelemetry", "starlette", "typer", "rich"}:
            assert layer_of(path) == "ops"
        if name.startswith("pykka._"):
            assert layer_of(path) == "actors"
        if root == "time":
            assert path.name in {"clock.py", "lock.py", "future.py", "stop_flag.py"}, path
        if root in {"random", "uuid"} and layer_of(path) == "runtime":
            raise AssertionError("ids and randomness are injected")
