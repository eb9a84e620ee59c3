"""Errors of perdure as answers over HTTP: which status code, and what the client is told.

    answer_errors(app)

What is the client's to mend is told in words; of what is not, only the kind is, and the rest goes
to the log. The body is a problem in JSON (RFC 9457). Next to read: ``starlette.py``.
"""

from __future__ import annotations

import logging
import sys
from functools import partial
from typing import Any

from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from perdure.errors import (
    CodecError,
    CorrelationFailed,
    DecodeError,
    InstanceAlreadyExists,
    InstanceFinished,
    InstanceNotFound,
    InstanceQuarantined,
    InvalidQuery,
    LimitExceeded,
    MailboxFull,
    MessageNotHandled,
    NotIndexed,
    OutcomeUnknown,
    PerdureError,
    PublishFailed,
    RuntimeNotRunning,
    SagaFailed,
    SagaStuck,
    SendTimeout,
    StoreError,
    UnknownJob,
    UnknownMessageType,
)

__all__ = ["answer_errors", "status_of"]

logger = logging.getLogger("perdure")

RETRY_AFTER_S = 1
TRY_AGAIN_LATER = 1013
INTERNAL_ERROR = 1011
"""Codes with which a web socket is closed."""

_STATUS: dict[type[PerdureError], int] = {
    InstanceNotFound: 404,
    UnknownJob: 404,
    InstanceAlreadyExists: 409,
    InstanceFinished: 409,
    MessageNotHandled: 409,
    SagaFailed: 409,
    SagaStuck: 409,
    LimitExceeded: 413,
    CorrelationFailed: 422,
    InvalidQuery: 422,
    UnknownMessageType: 422,
    NotIndexed: 500,
    DecodeError: 500,
    CodecError: 422,
    InstanceQuarantined: 503,
    MailboxFull: 503,
    OutcomeUnknown: 503,
    RuntimeNotRunning: 503,
    StoreError: 503,
    SendTimeout: 504,
}
"""By class; a class that is not here has that of the nearest one above it, or 500."""


def status_of(error: PerdureError) -> int:
    """The status code for an error; for a publication that failed in parts, that of the gravest.

    >>> status_of(InstanceNotFound("no such instance"))
    404
    """
    if isinstance(error, PublishFailed):
        parts = [one for one in error.outcomes if isinstance(one, BaseException)]
        return max(
            (status_of(one) if isinstance(one, PerdureError) else 500 for one in parts), default=500
        )
    return next((_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS), 500)


def answer_errors(app: Any) -> None:
    """Have a Starlette or FastAPI application answer errors of perdure, wherever they are raised.

    404 for an instance that is not there, 409 for a strict message that does not fit its state, 413
    and 422 for what cannot be a message or a query. 503 with ``Retry-After`` if there is no room,
    the store fails or the runtime stops; 504 for a send that timed out: after these, the same
    message may be sent again under its message id, and is applied once. Anything else is a 500.

    If one of them keeps the application from starting, the server is told it in its own words, with
    what to do, and without the traceback. To be called before the application starts.
    """
    app.add_exception_handler(PerdureError, _answer)
    app.add_middleware(_FailsInWords)


class _FailsInWords:
    """Tells the server why a start, or an end, has failed."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            send = partial(_tell, send)
        await self._app(scope, receive, send)


async def _tell(send: Send, message: Message) -> None:
    error = sys.exception()  # Starlette sends while it handles it
    if message["type"].endswith(".failed") and isinstance(error, PerdureError):
        message = {**message, "message": str(error)}
    await send(message)


async def _answer(connection: HTTPConnection, error: Exception) -> Response | None:
    assert isinstance(error, PerdureError)
    status = status_of(error)
    if status >= 500:
        logger.error("%s is answered with %d: %s", connection.url.path, status, error)
    if isinstance(connection, WebSocket):
        await connection.close(TRY_AGAIN_LATER if status in (503, 504) else INTERNAL_ERROR)
        return None
    problem: dict[str, Any] = {"title": type(error).__name__, "status": status}
    if status < 500:
        problem["detail"] = error.problem
        if error.saga is not None:
            problem |= {"saga": error.saga, "correlation_id": error.correlation_id}
    headers = {"retry-after": str(RETRY_AFTER_S)} if status == 503 else {}
    return JSONResponse(problem, status, headers, media_type="application/problem+json")
