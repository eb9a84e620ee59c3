"""What goes with a runtime: over a file its control socket, over a PostgreSQL of its own the mail.

Registered by the front door (``runtime/companions.py``), and imported only when there is one:
``import perdure`` costs nothing of it.
Next to read: ``control/server.py``; ``cluster/embedded.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure.runtime.runtime import Runtime
from perdure.store.beside import beside_of

if TYPE_CHECKING:
    from perdure.cluster.embedded import MailTaking
    from perdure.ops.control.server import ControlSocket
    from perdure.runtime.lifecycle import Lifecycle

__all__ = ["attend", "bring_mail"]


async def attend(runtime: Lifecycle) -> ControlSocket | None:
    """The control socket of a runtime that has started, if its store is a file."""
    if not isinstance(runtime, Runtime) or not hasattr(runtime.store, "record_control"):
        return None
    if runtime.running is None or not runtime.running.services.settings.control_socket:
        return None
    from perdure.ops.control.server import ControlSocket

    control = ControlSocket(runtime)
    return control if await control.listen() else None


async def bring_mail(runtime: Lifecycle) -> MailTaking | None:
    """The mail of a runtime that has started, if it owns all shards of a store in PostgreSQL."""
    running, beside = runtime.running, beside_of(runtime.store)
    if running is None or running.services.elsewhere is not None or beside is None:
        return None
    if getattr(runtime.store, "shard", None) is not None:
        return None
    from perdure.cluster.embedded import take_mail

    return await take_mail(running, beside)
