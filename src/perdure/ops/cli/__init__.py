"""The command line ``perdure``: looks into stores, repairs, runs. Needs the extra ``cli``.

    perdure instances list --store sqlite+aiosqlite:///orders.db --status stuck
    perdure release Order/o-1 --why "fixed in 1.4" --store sqlite+aiosqlite:///orders.db

Looking opens the store read-only, beside whoever holds it, and needs none of the user's code.
Repairing goes through the control socket of the runtime that holds the store, or, where none does,
through a runtime that ``--app`` makes in this process.
``exits.py``: exit codes. ``safe.py``: what may reach a terminal. Next to read: ``app.py``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.util import find_spec

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code."""
    if missing := [name for name in ("typer", "rich") if find_spec(name) is None]:
        print(
            f"perdure: the command line needs {' and '.join(missing)}: pip install 'perdure[cli]'",
            file=sys.stderr,
        )
        return 2
    from perdure.ops.cli.app import run

    return run(arguments)
