"""From ``module:attribute`` and a store's URL to a runtime that is not started."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from perdure import Runtime, SqlStore
from perdure.errors import DefinitionError
from perdure.runtime.loading import load_runtime
from perdure.runtime.watching.vitals import Phase
from tests.sagas import Flaky, Ledger

APPS = """
from perdure import Runtime, Settings
from tests.sagas import Flaky, Ledger

def over(store):
    return Runtime(store, [Ledger, Flaky], Settings(mailbox_max=7))

runtime = over("memory://")

def plain():
    return runtime

async def later(url="sqlite+aiosqlite:///usual.db"):
    return over(url)

def by_any_name(where, *, mailbox_max=3):
    return over(where)

class Made:
    def __call__(self, store):
        return over(store)

made = Made()

def two(store, region):
    return over(store)

def broken(store):
    raise OSError("no such region")

nothing = 7
"""


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Runtime]:
    (tmp_path / "loaded_apps.py").write_text(APPS)
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("loaded_apps", None)

    def load(name: str, store: str | None = None) -> Runtime:
        return asyncio.run(load_runtime(f"loaded_apps:{name}", store))

    return load


@pytest.mark.parametrize("name", ["runtime", "plain", "over", "later", "by_any_name", "made"])
def test_any_app_runs_over_the_store_that_is_named(name: str, load: Callable[..., Runtime]) -> None:
    runtime = load(name, "sqlite+aiosqlite:///named.db")
    assert isinstance(runtime.store, SqlStore)
    assert Path(runtime.store.path).name == "named.db"
    assert list(runtime.members) == [Ledger, Flaky]
    assert runtime.phase is Phase.NEW


def test_without_one_it_runs_over_its_own(load: Callable[..., Runtime]) -> None:
    assert load("runtime").store.name.startswith("memory")
    later = load("later").store
    assert isinstance(later, SqlStore)
    assert Path(later.path).name == "usual.db"


@pytest.mark.parametrize("name", ["over", "by_any_name", "made"])
def test_who_wants_a_store_and_gets_none_says_so(name: str, load: Callable[..., Runtime]) -> None:
    with pytest.raises(DefinitionError, match=r"wants the store's URL.*give --store"):
        load(name)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("two", "missing 1 required positional argument: 'region'"),
        ("broken", "makes no runtime: OSError: no such region"),
        ("nothing", "is a int, no Runtime"),
        ("absent", "there is no 'absent'"),
    ],
)
def test_what_makes_no_runtime_is_named(
    name: str, problem: str, load: Callable[..., Runtime]
) -> None:
    with pytest.raises(DefinitionError, match=problem):
        load(name, "memory://")


@pytest.mark.parametrize("name", ["runtime", "over"])
def test_a_store_that_is_none_is_refused(name: str, load: Callable[..., Runtime]) -> None:
    with pytest.raises(DefinitionError, match=r"^'mysql://somewhere' names no store"):
        load(name, "mysql://somewhere")
