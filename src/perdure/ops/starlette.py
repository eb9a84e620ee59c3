"""A runtime within a Starlette or FastAPI application: it starts and stops with it.

    runtime = Runtime(url, [Order, shipping])
    app = FastAPI(lifespan=lifespan(runtime))
    answer_errors(app)
    add_endpoints(app, endpoints(runtime))

    @app.post("/orders/{order_id}/payment")
    async def pay(order_id: str, runtime: Annotated[Runtime, Depends(runtime_of)]) -> ...

A server that stops takes no more connections, finishes the requests it has, and then stops the
runtime, which finishes what it has accepted. A runtime that stops by itself (a saga escalates, or
another process has taken the store) ends the server, see ``end_server``. One process serves one
file: with ``uvicorn --workers 2`` the second one finds it locked, and does not start. Over
PostgreSQL, ``perdure.cluster.Cluster`` serves with as many as you like.
Needs the extra ``service``. Next to read: ``asgi.py``, the endpoints; ``problems.py``, the errors.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any, TypeAlias

try:
    from starlette.requests import HTTPConnection
    from starlette.routing import Route
except ImportError as error:
    raise ImportError(
        "perdure.ops.starlette needs Starlette; install it: pip install 'perdure[service]'"
    ) from error

from perdure.errors import RuntimeNotRunning
from perdure.ops.asgi import Endpoints
from perdure.ops.problems import answer_errors as answer_errors
from perdure.runtime.runtime import Runtime

__all__ = ["add_endpoints", "answer_errors", "end_server", "lifespan", "runtime_of"]

logger = logging.getLogger("perdure")

Lifespan: TypeAlias = Callable[[Any], AbstractAsyncContextManager[Mapping[str, Any]]]
Around: TypeAlias = Callable[[Any], AbstractAsyncContextManager[Mapping[str, Any] | None]]
Source: TypeAlias = Runtime | Callable[[Any], Runtime | AbstractAsyncContextManager[Runtime]]

KEY = "perdure"
"""Under this name the runtime is in the state of the application and of each request."""


def end_server() -> None:
    """Have the server of this process end in order, as by ``kill``: whoever started it restarts it.

    Sends SIGTERM to this process, if somebody handles that. Nobody does in a test client: there the
    requests that need the runtime fail, and so does readiness.
    """
    if callable(signal.getsignal(signal.SIGTERM)):
        signal.raise_signal(signal.SIGTERM)


def lifespan(
    runtime: Source,
    *,
    around: Around | None = None,
    on_stopped: Callable[[], None] = end_server,
) -> Lifespan:
    """The lifespan of an application that a runtime lives in.

        @asynccontextmanager
        async def orders(app):
            async with httpx.AsyncClient() as gateway:      # open before the runtime and after it
                yield Runtime(url, [Order, shipping], resources={"gateway": gateway})

        app = FastAPI(lifespan=lifespan(orders))

    ``runtime``: one that is not started, or a function of the application that gives one, or an
    asynchronous context with one. ``around`` is a lifespan of the application's own, which begins
    before the runtime is made and ends after it has stopped; its state is kept. ``on_stopped`` is
    called when the runtime has stopped by itself; its error, if any, is raised when the application
    ends.

    While the application starts, raises what ``Runtime.start`` does.
    """

    @asynccontextmanager
    async def alive(app: Any) -> AsyncIterator[Mapping[str, Any]]:
        async with _around(around, app) as state, _made(runtime, app) as made, made:
            setattr(app.state, KEY, made)
            watching = asyncio.create_task(_watch(made, on_stopped))
            try:
                yield {**(state or {}), KEY: made}
            finally:
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)

    return alive


def runtime_of(connection: HTTPConnection) -> Runtime:
    """The runtime of the application that a request, or a web socket, has come to.

        @app.get("/orders/{order_id}")
        async def show(order_id: str, runtime: Annotated[Runtime, Depends(runtime_of)]): ...

    Raises ``RuntimeNotRunning`` if the application has no such lifespan, or has not begun it.
    """
    state = connection.scope.get("state") or {}
    found = state.get(KEY) or getattr(connection.app.state, KEY, None)
    if not isinstance(found, Runtime):
        raise RuntimeNotRunning(
            "the application has no runtime",
            remedy="give it one: FastAPI(lifespan=lifespan(runtime)), and start the lifespan",
        )
    return found


def add_endpoints(app: Any, endpoints: Endpoints) -> None:
    """Have the application serve the endpoints at its root: ``/health`` and the others.

        add_endpoints(app, endpoints(runtime, metrics=metrics))

    To serve them below another path, mount them: ``app.mount("/ops", endpoints(runtime))``.
    """
    app.router.routes.extend(Route(path, endpoints) for path in endpoints.paths)


def _around(around: Around | None, app: Any) -> AbstractAsyncContextManager[Any]:
    return nullcontext() if around is None else around(app)


def _made(source: Source, app: Any) -> AbstractAsyncContextManager[Runtime]:
    made = source if isinstance(source, Runtime) else source(app)
    return nullcontext(made) if isinstance(made, Runtime) else made


async def _watch(runtime: Runtime, on_stopped: Callable[[], None]) -> None:
    try:
        await runtime.stopped()
    except Exception as error:
        logger.critical("the runtime has stopped, and the service with it: %s", error)
    else:
        logger.critical("the runtime has stopped, and the service with it")
    on_stopped()
