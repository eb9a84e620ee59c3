"""What a command is about: the store that ``--store`` or ``--app`` names, and the way to change it.

    async with Target.of(store, app).asking() as ask:
        await ask("release", saga="Order", id="o-1", by="ann", why="fixed")

A runtime that holds the store is asked through its control socket. Where none holds it, ``--app``
starts one in this process, and stops it when the command is done.
Next to read: ``ops/control/client.py``; ``runtime/loading.py``.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from perdure.core.correlation import instance_key
from perdure.errors import DefinitionError, SendTimeout, StoreError
from perdure.ops.cli.clustered import looking_in
from perdure.ops.cli.waiting import Waiting
from perdure.ops.control import Control, NoAnswer, no_end, perform
from perdure.queue import WorkQueue
from perdure.runtime.definitions import Saga
from perdure.runtime.loading import load_runtime, url_named
from perdure.runtime.runtime import Runtime
from perdure.store.overview import Overview, overview_of
from perdure.store.postgres_address import is_postgres, shown
from perdure.store.sql import SqlStore
from perdure.store.urls import store_from_url, url_of

__all__ = ["Ask", "NotInUse", "Target", "path_named"]


class NotInUse(StoreError):
    """No runtime holds the store, so that there is none to ask."""


class Ask(Protocol):
    """Has a runtime do something; see ``ops/control/requests.py``."""

    async def __call__(self, do: str, *, within_s: float = 60.0, **arguments: Any) -> Any: ...


@dataclass(frozen=True, slots=True)
class Target:
    """A store, by its URL, and perhaps the user's runtime over it.

    ``path`` is that of its file, "" for one in PostgreSQL.
    """

    url: str
    path: str
    app: str | None

    @property
    def is_server(self) -> bool:
        """It is in PostgreSQL: no file, and no socket beside one."""
        return not self.path

    @classmethod
    async def of(cls, store: str | None, app: str | None) -> Target:
        """What the options name. Raises ``DefinitionError``, and ``StoreError`` for no file."""
        if store is None:
            if app is None:
                raise DefinitionError(
                    "no store is named",
                    remedy="give --store, or set PERDURE_STORE in the environment",
                )
            own = (await load_runtime(app)).store
            if is_postgres(url := url_of(own)):
                return cls(url, "", app)
            path = _path_of(own, app)
        elif is_postgres(store):
            return cls(store, "", app)
        else:
            path = path_named(store)
        if not _is_file(path):
            raise StoreError(f"there is no file {path!r}", remedy="give the store's own path")
        return cls(f"sqlite+aiosqlite:///{path}", path, app)

    async def members(self) -> Sequence[Saga | WorkQueue]:
        """The sagas of ``--app``, none without it."""
        return () if self.app is None else (await load_runtime(self.app, self.url)).members

    @asynccontextmanager
    async def asking(self) -> AsyncIterator[Ask]:
        """Whoever can change the store. Raises ``NotInUse``, ``NoAnswer``, ``StoreLocked``."""
        if self.is_server:
            async with self._on_server() as ask:
                yield ask
            return
        try:
            control = await Control.over(self.path)
        except NoAnswer:
            if self.app is None:
                raise
            control = None  # its start says whether the store is really held
        if control is not None:
            async with control:
                yield control.ask
        elif self.app is None:
            raise NotInUse(
                f"no runtime holds {self.path!r}",
                remedy="start yours (perdure run module:runtime) and repeat this, or give --app "
                "module:runtime: it is started here for this and stopped again",
            )
        else:
            runtime = await load_runtime(self.app, self.url, moves=False)
            own = _path_of(runtime.store, self.app)
            if not _is_same(own, self.path):
                raise DefinitionError(
                    f"--store names {self.path!r}, but the runtime of --app is over {own!r}",
                    remedy="give one of them",
                )
            async with runtime:
                yield _Here(runtime).ask

    @asynccontextmanager
    async def _on_server(self) -> AsyncIterator[Ask]:
        """A process beside those that run over it; alone, if there is none."""
        if self.app is None:
            raise NotInUse(
                "a store in PostgreSQL is changed by the code that runs over it",
                remedy="give --app module:runtime: it is started here for this and stopped again",
            )
        async with looking_in(partial(load_runtime, self.app, self.url)) as runtime:
            yield _Here(runtime).ask


class _Here:
    """A runtime in this process, asked as one elsewhere is; who it waits for is said on stderr."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._overview = overview_of(runtime.store)
        self._waiting = Waiting(self._overview)

    async def ask(self, do: str, *, within_s: float = 60.0, **arguments: Any) -> Any:
        saga, correlation_id = arguments.get("saga"), arguments.get("id")
        key = instance_key(saga, correlation_id) if saga and correlation_id else None
        try:
            async with self._waiting.told(key), asyncio.timeout(within_s):
                return await perform(self._runtime, do, arguments)
        except TimeoutError:
            if self._overview is None:
                raise no_end(do, within_s) from None
            in_mail = None
            if do == "send" and key is not None:
                in_mail = await _in_mail(self._overview, key, within_s, arguments)
            raise in_mail or _perhaps_in_mail(do, within_s) from None


async def _in_mail(
    overview: Overview, key: str, within_s: float, arguments: Mapping[str, Any]
) -> SendTimeout | None:
    """The error, if what was sent waits for the owner of its shard."""
    with suppress(StoreError):
        if await overview.mail_for(key) is not None:
            named = f" under message id {one!r}" if (one := arguments.get("message_id")) else ""
            return SendTimeout(
                f"no answer within {within_s:g} s: it is in the mail of shard "
                f"{overview.shard_of(key)}{named}",
                saga=arguments["saga"],
                correlation_id=arguments["id"],
                remedy="it will be applied when an owner takes it; look with perdure inbox, or "
                f"perdure instances why {key}",
            )
    return None


def _perhaps_in_mail(do: str, within_s: float) -> SendTimeout:
    return SendTimeout(
        f"no end of {do!r} within {within_s:g} s",
        remedy="it may be done still, as soon as the owner of the shard takes it from the mail: "
        "look with perdure hosts and perdure inbox before you repeat it",
    )


def path_named(store: str) -> str:
    """The absolute path of the file that a URL, or a path, names. Raises ``DefinitionError``."""
    return _path_of(store_from_url(url_named(store)), store)


def _path_of(store: object, named: str) -> str:
    if isinstance(store, SqlStore):
        return os.path.abspath(store.path)
    raise DefinitionError(
        f"{shown(named)!r} is no store in a file",
        remedy="give one such as sqlite+aiosqlite:///orders.db",
    )


def _is_file(path: str) -> bool:
    return os.path.isfile(path)


def _is_same(path: str, other: str) -> bool:
    return os.path.realpath(path) == os.path.realpath(other)
