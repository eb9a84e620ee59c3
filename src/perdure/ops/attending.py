"""What goes with every runtime over a file: its control socket, imported only when there is one.

Registered by the front door (``runtime/companions.py``): ``import perdure`` costs nothing of it.
Next to read: ``control/server.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure.runtime.runtime import Runtime

if TYPE_CHECKING:
    from perdure.ops.control.server import ControlSocket
    from perdure.runtime.lifecycle import Lifecycle

__all__ = ["attend"]


async def attend(runtime: Lifecycle) -> ControlSocket | None:
    """The control socket of a runtime that has started, if its store is a file."""
    if not isinstance(runtime, Runtime) or not hasattr(runtime.store, "record_control"):
        return None
    from perdure.ops.control.server import ControlSocket

    control = ControlSocket(runtime)
    return control if await control.listen() else None
