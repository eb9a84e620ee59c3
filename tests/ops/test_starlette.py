"""A runtime within an application: it comes and goes with it, and answers for its errors."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI
from fastapi import WebSocket as FastApiSocket
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from perdure import MemoryStore, Runtime
from perdure import errors as perdure_errors
from perdure.errors import (
    Escalated,
    HandlerFailed,
    InstanceNotFound,
    MailboxFull,
    OutcomeUnknown,
    PerdureError,
    PublishFailed,
    RuntimeNotRunning,
    SendTimeout,
    StoreFull,
    StoreLocked,
    Unroutable,
)
from perdure.ops.asgi import endpoints
from perdure.ops.problems import status_of
from perdure.ops.starlette import add_endpoints, answer_errors, end_server, lifespan, runtime_of
from tests.ops.test_asgi import Failed, Grave, asking
from tests.runtime.support import quickly
from tests.sagas import Added, Ledger, Opened


async def add(request: Request) -> JSONResponse:
    runtime = runtime_of(request)
    ref = runtime.ref(Ledger, "x")
    await runtime.send(ref, Opened("x"), message_id="open")
    await runtime.send(ref, Added("x", int(request.query_params["n"])))
    view = await runtime.state(ref)
    assert view is not None
    return JSONResponse(list(view.state.items))


async def listen(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_text(str(runtime_of(socket).phase))
    await socket.close()


ROUTES = [Route("/add", add, methods=["POST"]), WebSocketRoute("/listen", listen)]


@asynccontextmanager
async def started(app: Starlette) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an application that a server has started."""
    async with app.router.lifespan_context(app), asking(app) as http:
        yield http


async def heard(app: Starlette, path: str) -> list[Any]:
    """What a client of a web socket hears."""
    events: list[Any] = []

    async def receive() -> dict[str, str]:
        return {"type": "websocket.connect"}

    async def send(event: Any) -> None:
        events.append(event.get("text") or event.get("code") or event["type"])

    scope = {"type": "websocket", "path": path, "headers": [], "query_string": b""}
    await app(scope, receive, send)
    return events


@quickly
async def test_a_runtime_lives_as_long_as_its_application():
    runtime = Runtime(MemoryStore(), [Ledger])
    app = Starlette(routes=ROUTES, lifespan=lifespan(runtime))
    add_endpoints(app, endpoints(runtime))
    for n in (1, 2):  # an application can be started again
        async with started(app) as http:
            answer = await http.post("/add", params={"n": n})
            assert answer.json() == list(range(1, n + 1))
            assert await heard(app, "/listen") == ["websocket.accept", "running", 1000]
            assert (await http.get("/health/ready")).status_code == 200
        assert runtime.phase == "stopped"


@quickly
async def test_fastapi_hands_the_runtime_to_whoever_depends_on_it():
    app = FastAPI(lifespan=lifespan(lambda app: Runtime("memory://", [Ledger])))

    @app.get("/phase")
    async def phase(runtime: Annotated[Runtime, Depends(runtime_of)]) -> str:
        return runtime.phase

    @app.websocket("/listen")
    async def hear(socket: FastApiSocket, runtime: Annotated[Runtime, Depends(runtime_of)]) -> None:
        await socket.accept()
        await socket.send_text(runtime.phase)
        await socket.close()

    async with started(app) as http:
        assert (await http.get("/phase")).json() == "running"
        assert await heard(app, "/listen") == ["websocket.accept", "running", 1000]


@quickly
async def test_what_the_runtime_needs_is_there_before_it_and_after_it():
    events: list[str] = []
    made: list[Runtime] = []

    @asynccontextmanager
    async def own(app: Any) -> AsyncIterator[dict[str, str]]:
        events.append("own begins")
        yield {"greeting": "hello"}
        events.append(f"own ends, {made[0].phase}")

    @asynccontextmanager
    async def ledgers(app: Any) -> AsyncIterator[Runtime]:
        events.append("resource begins")
        made.append(Runtime("memory://", [Ledger]))
        yield made[0]
        events.append(f"resource ends, {made[0].phase}")

    app = Starlette(lifespan=lifespan(ledgers, around=own))
    async with app.router.lifespan_context(app) as state:
        assert state == {"greeting": "hello", "perdure": made[0]}
        assert made[0].phase == "running"
    assert events == [
        "own begins", "resource begins", "resource ends, stopped", "own ends, stopped"
    ]  # fmt: skip


@quickly
async def test_an_application_whose_store_is_taken_does_not_start(tmp_path: Any):
    url = f"sqlite+aiosqlite:///{tmp_path}/orders.db"
    app = Starlette(lifespan=lifespan(Runtime(url, [Ledger])))
    other = Starlette(lifespan=lifespan(Runtime(url, [Ledger])))
    async with started(app):
        with pytest.raises(StoreLocked):
            await other.router.lifespan_context(other).__aenter__()


async def failure_of(app: Starlette) -> dict[str, Any]:
    """What a server is told that starts an application which does not start."""
    told: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "lifespan.startup"}

    async def send(message: Any) -> None:
        told.append(message)

    with suppress(StoreLocked, ZeroDivisionError):  # a server hears what it is told, and goes on
        await app({"type": "lifespan", "state": {}}, receive, send)
    [failure] = told
    assert isinstance(failure, dict)
    return failure


@quickly
async def test_the_server_is_told_in_words_why_the_application_does_not_start(tmp_path: Any):
    url = f"sqlite+aiosqlite:///{tmp_path}/orders.db"
    app = Starlette(lifespan=lifespan(Runtime(url, [Ledger])))
    answer_errors(app)
    async with Runtime(url, [Ledger]) as runtime:
        assert runtime.phase == "running"
        failure = await failure_of(app)
    assert failure["type"] == "lifespan.startup.failed"
    assert "Traceback" not in failure["message"]
    assert "stop that runtime first" in failure["message"]


@quickly
async def test_what_is_no_error_of_perdure_is_told_with_its_traceback():
    def no_runtime(app: Any) -> Runtime:
        raise ZeroDivisionError

    app = Starlette(lifespan=lifespan(no_runtime))
    answer_errors(app)
    assert "Traceback" in (await failure_of(app))["message"]


@quickly
async def test_without_a_lifespan_the_request_says_what_is_missing():
    async with asking(Starlette(routes=ROUTES)) as http:
        with pytest.raises(RuntimeNotRunning, match="lifespan"):
            await http.post("/add", params={"n": 1})


# A runtime that stops by itself


async def fail(request: Request) -> JSONResponse:
    await runtime_of(request).publish(Failed("g-1"))
    return JSONResponse({})


async def escalated(told: asyncio.Event, **options: Any) -> None:
    """An application runs into an escalation, and is not ready any more; its server ends it."""
    runtime = Runtime("memory://", [Grave])
    app = Starlette(routes=[Route("/fail", fail)], lifespan=lifespan(runtime, **options))
    add_endpoints(app, endpoints(runtime))
    alive = app.router.lifespan_context(app)
    await alive.__aenter__()
    async with asking(app) as http:
        await http.get("/fail")
        await told.wait()
        assert (await http.get("/health/live")).status_code == 503
        assert (await http.get("/health/ready")).status_code == 503
    with pytest.raises(Escalated):
        await alive.__aexit__(None, None, None)


@quickly
async def test_a_saga_that_escalates_ends_the_server_and_the_application_fails():
    told = asyncio.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: told.set())
    try:
        await escalated(told)
    finally:
        signal.signal(signal.SIGTERM, before)


@quickly
async def test_what_shall_happen_then_can_be_said():
    told = asyncio.Event()
    await escalated(told, on_stopped=told.set)


@quickly
async def test_where_nobody_handles_the_signal_none_is_sent():
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    end_server()


# Errors


async def raise_one(request: Request) -> JSONResponse:
    kind = getattr(perdure_errors, request.path_params["kind"])
    raise kind("a secret", saga="Ledger", correlation_id="x", remedy="do this")


async def raise_to_socket(socket: WebSocket) -> None:
    await socket.accept()
    kind = getattr(perdure_errors, socket.path_params["kind"])
    raise kind("a secret")


def failing() -> Starlette:
    app = Starlette(
        routes=[Route("/{kind}", raise_one), WebSocketRoute("/ws/{kind}", raise_to_socket)]
    )
    answer_errors(app)
    return app


@pytest.mark.parametrize(
    ("kind", "status", "retry_after"),
    [
        ("InstanceNotFound", 404, None),
        ("InstanceFinished", 409, None),
        ("InstanceAlreadyExists", 409, None),
        ("MessageNotHandled", 409, None),
        ("CorrelationFailed", 422, None),
        ("InvalidQuery", 422, None),
        ("EncodeError", 422, None),
        ("LimitExceeded", 413, None),
        ("HandlerFailed", 500, None),
        ("DefinitionError", 500, None),
        ("MailboxFull", 503, "1"),
        ("RuntimeNotRunning", 503, "1"),
        ("OutcomeUnknown", 503, "1"),
        ("StoreFull", 503, "1"),
        ("InstanceQuarantined", 503, "1"),
        ("SendTimeout", 504, None),
    ],
)
@quickly
async def test_an_error_is_answered_with_its_code(kind, status, retry_after):
    async with asking(failing()) as http:
        answer = await http.get(f"/{kind}")
    assert answer.status_code == status
    assert answer.headers.get("retry-after") == retry_after
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["title"], problem["status"]) == (kind, status)
    # What is ours to mend is not told to the client.
    assert ("a secret" in answer.text) == (status < 500)
    assert "do this" not in answer.text


@pytest.mark.parametrize(("kind", "code"), [("MailboxFull", 1013), ("HandlerFailed", 1011)])
@quickly
async def test_a_web_socket_is_closed_with_a_code(kind, code):
    assert await heard(failing(), f"/ws/{kind}") == ["websocket.accept", code]


def test_a_publication_that_failed_in_parts_has_the_gravest_code() -> None:
    def parts(*outcomes: Any) -> int:
        return status_of(PublishFailed("some", outcomes, remedy="look"))

    assert parts("a receipt", MailboxFull("full")) == 503
    assert parts(InstanceNotFound("none"), HandlerFailed("raised")) == 500
    assert parts(SendTimeout("late"), OutcomeUnknown("unknown")) == 504
    assert parts(ValueError("a mistake")) == 500


def test_every_error_has_a_code() -> None:
    kinds: list[type[PerdureError]] = [StoreFull, Unroutable, SendTimeout, Escalated]
    assert [status_of(kind("a problem")) for kind in kinds] == [503, 500, 504, 500]
