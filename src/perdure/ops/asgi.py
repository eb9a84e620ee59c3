"""Endpoints for those who look after a service: liveness, readiness, health, metrics. Plain ASGI.

    app.mount("/ops", endpoints(runtime, metrics=Metrics(runtime)))       # Starlette, FastAPI
    uvicorn.Server(uvicorn.Config(endpoints(runtime), port=9000))         # or by itself

    GET /health/live     200: this process does its work, or will. 503: it has to be restarted
    GET /health/ready    200: it takes messages, and they are kept. 503: send them elsewhere
    GET /health          the verdict with its issues, as JSON; 503 if it is critical
    GET /metrics         for Prometheus, in the format it asks for

To be served on the event loop that the runtime runs on; that they are answered at all says that it
turns. Knows no framework; the extra ``prometheus`` is needed for ``/metrics`` only.
Next to read: ``health.py``; ``starlette.py``, the runtime in an application.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from perdure.errors import StoreError
from perdure.ops.cluster_facts import ClusterFacts, facts_of_cluster
from perdure.ops.health import Health, HealthStatus, health
from perdure.ops.thresholds import Thresholds
from perdure.runtime.runtime import Runtime
from perdure.runtime.watching.vitals import Phase

__all__ = ["Endpoints", "Scraped", "endpoints", "is_alive", "why_not_ready"]

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]

ANSWER_S = 2.0
"""A store that does not answer a small question within this time is not there."""

WRITE_S = 5.0
"""Nor is one that has not ended a write for so long."""


class Scraped(Protocol):
    """Metrics over a prometheus-client registry, such as ``prometheus.Metrics``."""

    @property
    def registry(self) -> Any:
        """Where they are registered."""
        ...

    async def refresh(self) -> None:
        """Bring those up to date that are read from the store."""
        ...


def endpoints(
    runtime: Runtime | Callable[[], Runtime | None],
    *,
    metrics: Scraped | None = None,
    thresholds: Thresholds | None = None,
    critical_code: int = 503,
    keep_s: float = 1.0,
) -> Endpoints:
    """The endpoints of a runtime, or of the one a function gives when there is one.

    ``critical_code`` is the status code of ``/health`` when it is critical; 200 leaves it to the
    content. However often they are asked, the store is looked at once in ``keep_s`` seconds.
    """
    find = (lambda: runtime) if isinstance(runtime, Runtime) else runtime
    return Endpoints(find, metrics, thresholds or Thresholds(), critical_code, keep_s)


def is_alive(runtime: Runtime | None) -> bool:
    """It runs, or starts, or stops in order: whoever restarts the process must not do so."""
    if runtime is None:
        return True
    vitals = runtime.vitals()
    return vitals.phase is not Phase.STOPPED and vitals.escalated is None


async def why_not_ready(runtime: Runtime | None) -> str | None:
    """Why messages should be sent elsewhere for now; None: they should not.

    The runtime starts, stops or has escalated; the last write failed (then another one is tried),
    or does not end; the store cannot be read.
    """
    if runtime is None:
        return "the runtime is not there yet"
    vitals = await runtime.probe(timeout_s=ANSWER_S)
    if vitals.escalated is not None:
        return f"the runtime was stopped: {vitals.escalated}"
    if vitals.phase is not Phase.RUNNING:
        return f"the runtime is not running: {vitals.phase}"
    if vitals.write_error is not None:
        return f"the last write failed: {vitals.write_error}"
    if vitals.writing_s > WRITE_S:
        return f"a write has been under way for {vitals.writing_s:.0f} s"
    try:
        async with asyncio.timeout(ANSWER_S):
            await runtime.store.queues()
    except (StoreError, TimeoutError) as error:
        return f"the store cannot be read: {error or 'it does not answer'}"
    return None


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    body: bytes
    content_type: str = "application/json"
    allow: str = ""


class Endpoints:
    """An ASGI application; see ``endpoints``."""

    def __init__(
        self,
        find: Callable[[], Runtime | None],
        metrics: Scraped | None,
        thresholds: Thresholds,
        critical_code: int,
        keep_s: float,
    ) -> None:
        self._find = find
        self._metrics = metrics
        self._critical_code = critical_code
        self._health = _Kept(lambda: self._look(thresholds), keep_s)
        self._readiness = _Kept(self._look_ready, keep_s)
        self._routes: dict[str, Callable[[str], Awaitable[_Answer]]] = {
            "/health": self._get_health,
            "/health/live": self._get_live,
            "/health/ready": self._get_ready,
        }
        if metrics is not None:
            self._routes["/metrics"] = self._get_metrics

    @property
    def paths(self) -> list[str]:
        """What there is to be asked for."""
        return list(self._routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; by themselves in a server, they also say that they have started."""
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1000})
        else:
            await _send(send, scope["method"], await self._answer(scope))

    async def _answer(self, scope: Scope) -> _Answer:
        route = self._routes.get(_path_of(scope))
        if route is None:
            return _json(404, {"error": "not found"})
        if scope["method"] not in ("GET", "HEAD"):
            answer = _json(405, {"error": "method not allowed"})
            return _Answer(answer.status, answer.body, allow="GET, HEAD")
        return await route(_header(scope, b"accept"))

    async def _get_live(self, accept: str) -> _Answer:
        runtime = self._find()
        phase = Phase.NEW if runtime is None else runtime.phase
        return _json(200 if is_alive(runtime) else 503, {"phase": phase.value})

    async def _get_ready(self, accept: str) -> _Answer:
        before = self._known()
        why, cluster = await self._readiness.get(before)
        if why is None and (now := self._known()) != before:  # it began to stop while one looked
            why, cluster = await self._readiness.get(now)
        content = {"ready": why is None, "reason": why}
        if cluster is not None:
            content["cluster"] = cluster.as_json()
        return _json(200 if why is None else 503, content)

    async def _get_health(self, accept: str) -> _Answer:
        found = await self._health.get(self._known())
        if found is None:
            return _json(self._critical_code, {"status": "critical", "issues": []})
        is_critical = found.status is HealthStatus.CRITICAL
        return _json(self._critical_code if is_critical else 200, found.as_json())

    def _known(self) -> object:
        """What is known without a look, which one of a moment ago must not hide: that it stops, or
        fails to write, or that something else of it fails."""
        if (runtime := self._find()) is None:
            return None
        vitals = runtime.vitals()
        return vitals.phase, vitals.write_error is None, bool(vitals.troubles)

    async def _get_metrics(self, accept: str) -> _Answer:
        from prometheus_client.exposition import choose_encoder

        assert self._metrics is not None
        await self._metrics.refresh()
        encode, content_type = choose_encoder(accept)
        return _Answer(200, encode(self._metrics.registry), content_type)

    async def _look_ready(self) -> tuple[str | None, ClusterFacts | None]:
        runtime = self._find()
        why = await why_not_ready(runtime)
        if why is not None or runtime is None:
            return why, None
        try:
            async with asyncio.timeout(ANSWER_S):
                return None, await facts_of_cluster(runtime)
        except (StoreError, TimeoutError) as error:
            return f"the cluster cannot be seen: {error or 'no answer'}", None

    async def _look(self, thresholds: Thresholds) -> Health | None:
        runtime = self._find()
        return None if runtime is None else await health(runtime, thresholds)


class _Kept:
    """What was found is kept for a moment; whoever asks meanwhile waits for the same look."""

    def __init__(self, look: Callable[[], Awaitable[Any]], keep_s: float) -> None:
        self._look = look
        self._keep_s = keep_s
        self._looking: asyncio.Future[Any] | None = None
        self._state: object = None
        self._until_s = 0.0

    async def get(self, state: object) -> Any:
        """What a look finds, or found a moment ago in the same state."""
        looking, loop = self._looking, asyncio.get_running_loop()
        is_old = looking is None or (looking.done() and loop.time() >= self._until_s)
        if looking is None or is_old or state != self._state:
            looking = self._looking = asyncio.ensure_future(self._look())
            self._state = state
            looking.add_done_callback(lambda _: self._keep(loop.time()))
        return await asyncio.shield(looking)

    def _keep(self, now_s: float) -> None:
        self._until_s = now_s + self._keep_s


def _path_of(scope: Scope) -> str:
    """The path below where the application is mounted."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    below = path.removeprefix(root) if root and path.startswith(f"{root}/") else path
    return below.rstrip("/") or "/"


def _header(scope: Scope, name: bytes) -> str:
    found = [value.decode("latin-1") for key, value in scope["headers"] if key.lower() == name]
    return ",".join(found)


def _json(status: int, content: Mapping[str, Any]) -> _Answer:
    return _Answer(status, json.dumps(content).encode())


async def _send(send: Send, method: str, answer: _Answer) -> None:
    headers = [
        (b"content-type", answer.content_type.encode()),
        (b"content-length", str(len(answer.body)).encode()),
        (b"cache-control", b"no-store"),
    ]
    if answer.allow:
        headers.append((b"allow", answer.allow.encode()))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if method == "HEAD" else answer.body})


async def _live(receive: Receive, send: Send) -> None:
    """Nothing is to be started, and nothing to be stopped."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
