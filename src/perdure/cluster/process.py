"""What a process has of a cluster from its start to its stop: session, router, host, threads.

    process = await join(store, blueprint, settings, name="pod-1", assigned=None, on_over=stop)
    front = replace(blueprint, elsewhere=process.router.front)
    await process.host.start()
    await process.leave()

Next to read: ``host.py``, ``router.py``.
"""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.metadata import version

from perdure.cluster.host import Host
from perdure.cluster.router import Router
from perdure.cluster.settings import ClusterSettings
from perdure.cluster.sharing import Echo, SharedThreads
from perdure.errors import DefinitionError, Escalated
from perdure.runtime.blueprint import Blueprint
from perdure.runtime.running import Running
from perdure.runtime.watching.vitals import Trouble
from perdure.store.ownership import HostId, HostRow, Kind, Ownership
from perdure.store.session import Session, channel_of

__all__ = ["Process", "host_id"]

logger = logging.getLogger("perdure.cluster")


def host_id(name: str, kind: Kind) -> HostId:
    """A new life of a process of this name."""
    pid = os.getpid()
    return HostId(f"{kind}:{name}:{pid}:{secrets.token_hex(4)}", name, pid)
