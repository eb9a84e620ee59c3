"""From ``module:app`` to what a host runs. Next to read: ``front.py``; ``ray_life.py``."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from perdure.cluster.ray_life import Hosted

if TYPE_CHECKING:
    from perdure.cluster.ray_host import HostPlan

__all__ = ["hosted_of"]


async def hosted_of(plan: HostPlan) -> Hosted:
    """What is run for this plan, not started. Raises ``DefinitionError``."""
    module, _, name = plan.app.partition(":")
    made: Any = getattr(importlib.import_module(module), name)(plan)
    hosted: Hosted = made
    return hosted
