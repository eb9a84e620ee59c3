"""The hosts of one schema as a driver of Ray sees them: made, asked, moved, ended.

    hosts = RayHosts(ray, "perdure")
    hosts.make(plan)                       # SPREAD over the nodes; or on one: node="3f…"
    for status in await hosts.statuses(): ...
    await hosts.drain(3)
    await hosts.end(3)

Whatever waits for Ray's head waits in a thread. Next to read: ``ray.py``; ``ray_host.py``.
"""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass
from typing import Any

from perdure.cluster.ray_engine import NAMESPACE, RayError, to_its_end
from perdure.cluster.ray_host import HostPlan, RayHost, name_of, schema_of

__all__ = ["CPUS", "HostStatus", "RayHosts"]

CPUS = 0.01
"""What a host asks of its node. Not 0: Ray spreads only what takes something, and a node without
CPUs, as heads often are, gets none. Not 1: after the loss of a node the others must have room."""

ANSWER_S = 3.0
PLAN_S = 10.0
NAME_S = 10.0

SILENT = "no answer for {:g} s: Ray is about to start it, or it hangs"
GONE = "its process is gone: Ray starts it again, on a node that takes hosts"


@dataclass(frozen=True, slots=True)
class HostStatus:
    """How a host stands.

    ``state``: starting, running, failed (it tries again), draining, drained, over; or absent:
    it does not answer, since Ray looks for a place for it, or its node is gone. ``node``: Ray's id.
    """

    host: int
    state: str
    shards: tuple[int, ...] = ()
    node: str = ""
    machine: str = ""
    pid: int = 0
    is_restarted: bool = False
    error: str | None = None
    is_final: bool = False
    app: str = ""
    hosts: int = 0
    version: str = ""


class RayHosts:
    """The hosts of one schema."""

    def __init__(self, ray: Any, schema: str) -> None:
        self.ray = ray
        self._schema = schema

    async def numbers(self) -> list[int]:
        """The hosts that Ray knows, wherever they stand."""
        prefix = name_of(self._schema, 0)[:-1]
        found = await self._names()
        ends = [name.removeprefix(prefix) for name in found if name.startswith(prefix)]
        return sorted(int(end) for end in ends if end.isdecimal())

    async def schemas(self) -> list[str]:
        """Whose hosts Ray knows, those of other schemas included."""
        found = [schema_of(name) for name in await self._names()]
        return sorted({schema for schema in found if schema is not None})

    async def _names(self) -> list[str]:
        listed = await asyncio.to_thread(self.ray.util.list_named_actors, all_namespaces=True)
        return [one["name"] for one in listed if one["namespace"] == NAMESPACE]

    async def statuses(self) -> list[HostStatus]:
        """How each stands; one that does not answer for ``ANSWER_S`` is absent."""
        return await asyncio.gather(*(self.status(host) for host in await self.numbers()))

    async def status(self, host: int) -> HostStatus:
        """How one stands."""
        try:
            handle = await self.handle(host)
            facts = await asyncio.wait_for(handle.status.remote(), ANSWER_S)
        except TimeoutError:
            return HostStatus(host, "absent", error=SILENT.format(ANSWER_S))
        except self.ray.exceptions.ActorUnavailableError:
            return HostStatus(host, "absent", error=GONE)
        except (self.ray.exceptions.RayError, RayError) as error:
            return HostStatus(host, "absent", error=_first_line(error))
        known = {name: facts[name] for name in HostStatus.__slots__ if name in facts}
        return HostStatus(**known | {"shards": tuple(facts["shards"])})

    async def handle(self, host: int) -> Any:
        """Ray's handle of a host. Raises ``RayError`` if there is none of this number."""
        name = name_of(self._schema, host)
        try:
            return await asyncio.to_thread(self.ray.get_actor, name, NAMESPACE)
        except ValueError as error:
            raise RayError(
                f"Ray has no actor {name!r}", remedy="perdure ray up makes the hosts that miss"
            ) from error

    async def plan(self, host: int) -> HostPlan | None:
        """What a host runs; None if it does not answer."""
        handle = await self.handle(host)
        try:
            return HostPlan(**await asyncio.wait_for(handle.plan.remote(), PLAN_S))
        except (self.ray.exceptions.RayError, TimeoutError):
            return None

    async def make(self, plan: HostPlan, node: str | None = None) -> None:
        """Have Ray make a host: spread, or on this node if it can be had."""
        ours = {
            "name": name_of(self._schema, plan.host),
            "namespace": NAMESPACE,
            "lifetime": "detached",
            "max_restarts": -1,
            "max_task_retries": 0,
            "scheduling_strategy": "SPREAD" if node is None else self._on(node),
        }
        options = {"num_cpus": CPUS} | dict(plan.options) | ours
        made = self.ray.remote(RayHost).options(**options)
        until_s = asyncio.get_running_loop().time() + NAME_S
        while True:
            try:
                await to_its_end(made.remote, asdict(plan))
                return
            except ValueError:  # the name is that of one that has just been ended
                if asyncio.get_running_loop().time() > until_s:
                    raise
                await asyncio.sleep(0.05)

    async def drain(self, host: int, within_s: float) -> None:
        """Have a host finish what it has accepted, and give its shards up.

        One that does not answer is left as it is: whoever has its shards next fences it.
        """
        try:
            await asyncio.wait_for((await self.handle(host)).drain.remote(), within_s)
        except (self.ray.exceptions.RayError, TimeoutError):
            return

    async def end(self, host: int) -> None:
        """Have Ray end a host for good."""
        handle = await self.handle(host)
        await asyncio.to_thread(self.ray.kill, handle, no_restart=True)

    async def restart(self, host: int) -> None:
        """Have Ray end a host's process and start another one, where it likes."""
        handle = await self.handle(host)
        await asyncio.to_thread(self.ray.kill, handle, no_restart=False)

    def _on(self, node: str) -> Any:
        strategies = self.ray.util.scheduling_strategies
        return strategies.NodeAffinitySchedulingStrategy(node, soft=True)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
