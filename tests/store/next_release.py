"""What `perdure db upgrade` of the next release does: ``python -m tests.store.next_release URL``.

Its migration changes tables that every turn writes. With ``die`` it ends by SIGKILL in the midst of
it. Says the revisions it came from and brought the tables to.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import perdure.failpoints as failpoints
from perdure.store import revisions
from perdure.store.migrations import running, upgrade

NEXT = "0002"

MIGRATION = """
import perdure.failpoints as failpoints
from perdure.failpoints import Point
revision, down_revision = "0002", "0001"

def upgrade(connection):
    connection.exec_driver_sql("ALTER TABLE journal ADD COLUMN note TEXT")
    failpoints.reach(Point.CREATING)
    connection.exec_driver_sql("ALTER TABLE shards ADD COLUMN note TEXT")
    connection.exec_driver_sql("CREATE INDEX journal_by_note ON journal (note)")
"""


def die(point: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main(url: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        shutil.copytree(running.SCRIPTS / "versions", Path(directory, "versions"))
        Path(directory, "versions", "v0002.py").write_text(MIGRATION)
        vars(running).update(SCRIPTS=Path(directory), REVISION=NEXT)
        vars(revisions).update(REVISION=NEXT)
        standing = asyncio.run(upgrade(url))
    print(standing.came_from, standing.revision)


if __name__ == "__main__":
    if "die" in sys.argv[2:]:
        failpoints.listener = die
    main(sys.argv[1])
