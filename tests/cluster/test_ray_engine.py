"""Ray absent, unreachable, or of another version: an error that says what to do, and soon."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from importlib.util import find_spec
from typing import Any

import pytest

from perdure import Runtime
from perdure.cluster import ray, ray_hosted
from perdure.cluster.ray_engine import to_its_end
from perdure.cluster.ray_host import HostPlan
from perdure.cluster.ray_versions import check_versions, versions
from perdure.errors import DefinitionError
from perdure.ops.cli import main
from perdure.ops.cli.exits import Exit
from tests.runtime.support import quickly, rounds
from tests.sagas import Ledger

APP = "shop.service:runtime"
CALLS: dict[str, Callable[..., Coroutine[Any, Any, Any]]] = {
    "up": lambda **more: ray.up(APP, **more),
    "status": ray.status,
    "drain": lambda **more: ray.drain(0, **more),
    "rebalance": ray.rebalance,
    "down": ray.down,
}
needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")


@pytest.mark.parametrize("name", CALLS)
def test_without_ray_the_error_names_the_extra(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ray.RayError, match=r"pip install 'perdure\[ray\]'.*perdure run"):
        asyncio.run(CALLS[name]())


def test_the_command_line_says_so_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["ray", "status"]) == 1
    assert "perdure[ray]" in capsys.readouterr().err


@needs_ray
@pytest.mark.parametrize("name", CALLS)
def test_a_head_that_does_not_answer_is_named_at_once(name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    began_s = time.monotonic()
    with pytest.raises(ray.RayError, match=f"{address} cannot be reached"):
        asyncio.run(CALLS[name](address=address))
    assert time.monotonic() - began_s < 5


@needs_ray
def test_the_address_of_the_environment_is_tried_as_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(ray.RayError, match=r"127\.0\.0\.1:1 cannot be reached"):
        asyncio.run(ray.status())


@pytest.mark.parametrize("given", ["{", "[]"])
def test_a_runtime_env_that_is_none_is_refused(
    given: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ray", "up", APP, "--runtime-env", given]) == 2
    assert "give an object" in capsys.readouterr().err


@needs_ray
def test_where_no_cluster_runs_and_none_is_named_it_is_said_how_to_name_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def nothing(address: str) -> str:
        raise ConnectionError("Could not find any running Ray instance.")

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    services = "ray._private.services.canonicalize_bootstrap_address"
    monkeypatch.setattr(services, nothing)
    with pytest.raises(ray.RayError, match=r"no cluster of Ray runs on this machine; .*--address"):
        asyncio.run(ray.status())


@needs_ray
def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(ray.RayError, match="no cluster of Ray at 'nonsense'"):
        asyncio.run(ray.status(address="nonsense"))


@pytest.mark.parametrize(
    "arguments",
    [
        {"app": "shop"},
        {"app": ":runtime"},
        {"hosts": 0},
        {"hosts": True},
        {"hosts": 1001},
        {"options": {"name": "mine"}},
        {"options": {"max_restarts": 0}},
    ],
)
def test_what_can_never_do_is_refused_before_ray_is_asked(arguments: dict[str, Any]) -> None:
    with pytest.raises(DefinitionError):
        asyncio.run(ray.up(**{"app": APP} | arguments))


def test_more_hosts_than_shards_are_refused_before_ray_is_asked(postgres: str) -> None:
    with pytest.raises(DefinitionError, match=r"17 hosts for 16 shards.*ask for 16 or fewer"):
        asyncio.run(ray.up(APP, postgres, hosts=17, address="127.0.0.1:1"))


def test_a_host_refuses_so_too_where_its_app_names_the_store(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def loaded(app: str, store: str | None) -> Runtime:
        return Runtime(postgres, [Ledger])

    monkeypatch.setattr(ray_hosted, "load_runtime", loaded)
    plan = HostPlan(APP, None, "perdure", 16, 17, {}, {})
    with pytest.raises(DefinitionError, match="17 hosts for 16 shards"):
        asyncio.run(ray_hosted.hosted_of(plan))


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_up_that_is_interrupted_can_end_what_it_has_made(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = []

    async def up(*_: Any, **__: Any) -> None:
        try:
            signal.raise_signal(signal.Signals[name])
            await asyncio.sleep(10)
        finally:
            await asyncio.sleep(0)
            ended.append(name)

    monkeypatch.setattr(ray, "up", up)
    assert main(["ray", "up", APP]) == Exit.INTERRUPTED
    assert ended == [name]
    assert "interrupted" in capsys.readouterr().err


@quickly
async def test_who_is_cancelled_while_ray_makes_a_host_waits_until_it_is_made() -> None:
    """Else it would be there after all had been ended."""
    begun, may_end, made = threading.Event(), threading.Event(), []

    def make(host: int) -> None:
        begun.set()
        may_end.wait(5)
        made.append(host)

    making = asyncio.create_task(to_its_end(make, 3))
    await asyncio.to_thread(begun.wait, 5)
    making.cancel()
    await rounds()
    assert not making.done()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await making
    assert made == [3]


@needs_ray
def test_a_node_of_another_ray_or_python_is_refused_with_what_differs() -> None:
    here = versions()
    check_versions(here | {"perdure": "0.0.1"}, here)  # while nodes are replaced one by one
    with pytest.raises(DefinitionError, match=rf"has Python {here['Python']}, not 3\.9;"):
        check_versions(here | {"Python": "3.9"}, here)
    with pytest.raises(DefinitionError, match=r"not 3\.9 and Ray .*, not 1\.0;"):
        check_versions(here | {"Python": "3.9", "Ray": "1.0"}, here)
