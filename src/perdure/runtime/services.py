"""What the parts of a runtime share. Everything that touches the world is in here, injected.

Next to read: ``instances/supervisor.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from perdure.codec import Codec
from perdure.codec.journal import JournalCodec
from perdure.core.outcome import Encoder
from perdure.runtime.clock import Clock, Wake
from perdure.runtime.elsewhere import Elsewhere
from perdure.runtime.jobs.permits import Permits
from perdure.runtime.supervised import Background, growing_s, insist
from perdure.runtime.watching.observing import Observing
from perdure.runtime.watching.tracing import Spans
from perdure.runtime.watching.vitals import Troubles
from perdure.settings import Settings
from perdure.store.group_commit import GroupCommit
from perdure.store.protocol import Store

__all__ = ["Services"]


@dataclass(slots=True)
class Services:
    """Store, time, ids, bytes, limits, and who observes. ``spans``: None when nothing is traced.

    ``elsewhere``: whose the instances are, None if all are this runtime's own. ``permits``: what
    its work queues share with those of other runtimes of the process.
    """

    store: Store
    clock: Clock
    settings: Settings
    codec: Codec
    journal: JournalCodec
    encoder: Encoder
    commit: GroupCommit
    new_id: Callable[[], str]
    epoch: int
    next_position: Callable[[], int]
    random: Callable[[], float]
    observing: Observing
    spans: Spans | None = None
    elsewhere: Elsewhere | None = None
    permits: Permits | None = None
    troubles: Troubles = field(default_factory=Troubles)

    def away(self, key: str) -> Elsewhere | None:
        """Who has something done for this key, if it is not this runtime's own; else None."""
        elsewhere = self.elsewhere
        return None if elsewhere is None or elsewhere.owns(key) else elsewhere

    def background(
        self,
        what: str,
        work: Callable[[], Coroutine[Any, Any, None]],
        changed: Callable[[], None] = lambda: None,
    ) -> Background:
        """Background work that is taken up again if it fails."""
        clock, pause_s = self.clock, self.settings.retry_pause_s
        return Background(clock, pause_s, what, work, changed, self.troubles)

    def pause(self, what: str, function: Callable[[], None], failures: int = 1) -> Wake:
        """Call after the pause before a retry, and again if that raises.

        The pause doubles with ``failures``, those in a row so far.
        """
        clock, pause_s = self.clock, self.settings.retry_pause_s
        call = insist(clock, pause_s, what, function, self.troubles)
        return clock.call_later(growing_s(pause_s, failures), call)
