"""``perdure db`` as it is typed: what it says, and what it exits with."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from perdure.ops.cli import main
from perdure.store.postgres_schema import REVISION, VERSION_TABLE
from perdure.store.schema import SCHEMA_VERSION
from tests.ops.cli.support import Live
from tests.servers.databases import execute


@pytest.fixture
def typed(capsys, monkeypatch):
    """Types a command; what it printed, and where."""
    monkeypatch.delenv("PERDURE_STORE", raising=False)

    def run(*words: str, exits: int = 0) -> str:
        code = main(["db", *words])
        printed = capsys.readouterr()
        assert code == exits, printed
        return str(printed.err if exits else printed.out)

    return run


def test_the_tables_are_created_looked_at_and_checked(typed, empty_postgres):
    store = ("--store", empty_postgres)
    assert "no tables of perdure are there" in typed("current", *store)
    assert "run `perdure db upgrade`" in typed("check", *store, exits=5)
    said = typed("upgrade", "--shards", "4", *store)
    assert said == f"schema perdure: at revision {REVISION}, 4 shards; it is created\n"
    assert "was there already" in typed("upgrade", *store)
    assert typed("check", *store) == f"schema perdure: at revision {REVISION}, 4 shards: ready\n"
    assert f"revision  {REVISION}" in typed("current", *store)


def test_programs_get_json(typed, empty_postgres, monkeypatch):
    monkeypatch.setenv("PERDURE_STORE", f"{empty_postgres}?schema=shop")
    done = json.loads(typed("upgrade", "--json"))
    assert (done["came_from"], done["revision"], done["needs"]) == (None, REVISION, REVISION)
    assert (done["schema"], done["shards"]) == ("shop", 16)
    assert "***" in done["database"]
    found = json.loads(typed("current", "--json"))
    assert found == {name: done[name] for name in found}
    assert json.loads(typed("check", "--json"))["schema"] == "shop"
    execute(empty_postgres, f"UPDATE shop.{VERSION_TABLE} SET version_num = '0002'")
    error = json.loads(typed("check", "--json", exits=5))["error"]
    assert error["type"] == "SchemaTooNew"
    typed("stamp", "--json", exits=5)
    execute(empty_postgres, f"DELETE FROM shop.{VERSION_TABLE}")
    assert json.loads(typed("stamp", "--json"))["revision"] == REVISION
    typed("check")


def test_a_url_as_hosted_databases_give_it_is_taken(typed, postgres):
    typed("check", "--store", f"{postgres}?sslmode=disable")
    assert "SSL" in typed("check", "--store", f"{postgres}?sslmode=require", exits=5)
    told = typed("check", "--store", f"{postgres}?channel_binding=require", exits=2)
    assert "'channel_binding'; known are schema, ssl, sslmode" in told


def test_another_number_of_shards_is_wrong_usage(typed, postgres):
    told = typed("upgrade", "--shards", "17", "--store", postgres, exits=2)
    assert "has 16 shards, which cannot become 17" in told
    typed("upgrade", "--shards", "0", "--store", postgres, exits=2)
    typed("upgrade", "--shards", "40000", "--store", postgres, exits=2)


def test_a_server_that_cannot_be_reached_exits_as_a_store_that_cannot_be_used(typed):
    told = typed("upgrade", "--store", "postgresql://ann:hidden@127.0.0.1:1/shop", exits=5)
    assert re.match(r"error: cannot reach postgresql\+asyncpg://ann:\*\*\*@127.0.0.1:1/shop", told)
    assert "hidden" not in told


def test_a_file_creates_and_upgrades_itself(typed, tmp_path):
    store = ("--store", str(tmp_path / "orders.db"))
    assert "there is no file" in typed("current", *store, exits=5)
    assert f"schema version {SCHEMA_VERSION}; the file is created" in typed("upgrade", *store)
    assert "is upgraded where it needed to be" in typed("upgrade", *store)
    assert str(SCHEMA_VERSION) in typed("current", *store)
    assert "ready" in typed("check", *store)


def test_a_file_that_a_runtime_holds_is_not_upgraded(typed, tmp_path):
    path = tmp_path / "orders.db"
    with Live(path):
        typed("upgrade", "--store", str(path), exits=5)
        typed("check", "--store", str(path))


def test_what_only_postgresql_has_is_refused_for_a_file(typed, tmp_path):
    path = str(tmp_path / "orders.db")
    assert "knows its own version" in typed("stamp", "--store", path, exits=2)
    assert "has no shards" in typed("upgrade", "--shards", "2", "--store", path, exits=2)
    assert not (tmp_path / "orders.db").exists()


def test_what_is_no_store_is_wrong_usage(typed):
    assert "no store is named" in typed("upgrade", exits=2)
    assert "is no store" in typed("check", "--store", "memory://", exits=2)
    assert "asyncpg" in typed("check", "--store", "postgresql+psycopg://db/shop", exits=2)


def test_the_command_line_starts_without_alembic_and_asyncpg():
    asks = (
        "import sys; import perdure.ops.cli.app;"
        "print(sorted({'alembic', 'asyncpg', 'mako'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", asks], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_without_asyncpg_files_are_looked_at_and_a_cluster_says_what_is_missing():
    asks = (
        "import sys; sys.modules['asyncpg'] = None; from perdure.ops.cli import main\n"
        "assert main(['version']) == 0; assert main(['ray', 'status']) == 2\n"
        "from perdure.cluster import Cluster"
    )
    done = subprocess.run([sys.executable, "-c", asks], check=False, capture_output=True, text=True)
    remedy = "PostgreSQL needs asyncpg; pip install 'perdure[postgres]'"
    assert done.stderr.count(f"error: {remedy}\n") == 1, done.stderr
    assert done.stderr.endswith(f"DefinitionError: {remedy}\n")
