"""What goes with a runtime: over a file a control socket, over PostgreSQL the mail it is sent.

Registered by the front door (``runtime/companions.py``): ``import perdure`` costs nothing of it.
Next to read: ``control/server.py``, ``cluster/alone.py``.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from perdure.runtime.runtime import Runtime

if TYPE_CHECKING:
    from perdure.cluster.alone import MailAlone
    from perdure.ops.control.server import ControlSocket
    from perdure.runtime.lifecycle import Lifecycle

__all__ = ["attend", "attend_mail"]


async def attend(runtime: Lifecycle) -> ControlSocket | None:
    """The control socket of a runtime that has started, if its store is a file."""
    if not isinstance(runtime, Runtime) or not hasattr(runtime.store, "record_control"):
        return None
    if not runtime.settings.control_socket:
        return None
    from perdure.ops.control.server import ControlSocket

    control = ControlSocket(runtime)
    return control if await control.listen() else None


async def attend_mail(runtime: Lifecycle) -> MailAlone | None:
    """The mail of a runtime that has started, if it owns a whole PostgreSQL database."""
    postgres, store = sys.modules.get("perdure.store.postgres"), runtime.store
    if postgres is None or not isinstance(store, postgres.PostgresStore):
        return None
    if store.session is None or runtime.running is None:
        return None
    from perdure.cluster.alone import MailAlone

    mail = MailAlone(store.database, store.session, runtime.running)
    await mail.start()
    return mail
