"""The public names, pinned: whoever adds or removes one does so knowingly."""

import subprocess
import sys

import pytest

import perdure
from perdure.store.sql import SqlStore


def test_all_public_names_are_listed_in_order_and_exist():
    in_order = sorted(
        set(perdure.__all__), key=lambda name: (not name.isupper(), name[0].islower(), name)
    )
    assert perdure.__all__ == in_order
    for name in perdure.__all__:
        assert hasattr(perdure, name)


def test_nothing_public_is_left_out():
    import types

    found = {
        name
        for name, value in vars(perdure).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert found <= set(perdure.__all__)


def test_errors_are_drawn_in_the_tree_of_their_module():
    errors = [
        value
        for value in vars(perdure.errors).values()
        if isinstance(value, type) and issubclass(value, perdure.PerdureError)
    ]
    for error in errors:
        assert f" {error.__name__}" in perdure.errors.__doc__


NOT_AT_THE_DOOR = {
    "aiosqlite", "alembic", "asyncpg", "click", "httpx", "hypothesis", "opentelemetry",
    "perdure.ops.cli", "perdure.ops.control", "perdure.store.sql", "perdure.testing",
    "prometheus_client", "psycopg", "pydantic", "ray", "rich", "sqlalchemy", "sqlite3",
    "starlette", "typer",
}  # fmt: skip


def test_importing_it_imports_nothing_that_only_some_need():
    code = "import perdure, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert NOT_AT_THE_DOOR.isdisjoint(done.stdout.split())


def test_what_is_imported_when_it_is_asked_for_is_there_like_the_rest():
    assert perdure.SqlStore is SqlStore
    assert set(perdure.__all__) <= set(dir(perdure))
    misspelt = "SqlStor"
    with pytest.raises(AttributeError, match="'perdure' has no attribute 'SqlStor'"):
        getattr(perdure, misspelt)
