"""How long a job waits for its next attempt. Next to read: ``workers.py``."""

from __future__ import annotations

import logging
from collections.abc import Callable

from perdure.core.queue_policy import QueuePolicy
from perdure.errors import LeaseLost, RetryLater

__all__ = ["delay_ms_of"]

logger = logging.getLogger("perdure.workers")


def delay_ms_of(
    policy: QueuePolicy, attempts: int, error: BaseException, random: Callable[[], float]
) -> int:
    """The milliseconds after an attempt that has failed with this error."""
    if isinstance(error, LeaseLost):
        return 0  # it is visible again at once: the lease was the wait
    if isinstance(error, RetryLater):
        return int(error.after_s * 1000)
    try:
        return policy.retry.next_delay_ms(attempts, random())
    except Exception:  # a policy of the user's own
        logger.exception("the retry policy of queue %r", policy.name)
        return 1000
