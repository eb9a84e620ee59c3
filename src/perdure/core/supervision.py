"""What becomes of an instance when one of its turns has failed for good: five strategies.

    supervision = Supervision.restart(max_restarts=3, within=timedelta(minutes=1))

A turn fails for good when its saga's code raised and the saga's ``retry`` policy, which counts in
the message's row, has no further attempt. Frozen values and a pure decision: whoever asks counts.
Literature: the supervision strategies of Erlang/OTP (restart intensity) and of Akka and Pekko.
Next to read: ``runtime/instances/failing.py``, which carries it out.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum

from perdure.core.retry import Exponential, RetryPolicy, check_number
from perdure.errors import DefinitionError

__all__ = ["Restarts", "Strategy", "Supervision"]


class Strategy(StrEnum):
    """What is done about a turn that failed for good."""

    RESUME = "resume"
    RESTART = "restart"
    STOP = "stop"
    QUARANTINE = "quarantine"
    ESCALATE = "escalate"


def _backoff() -> RetryPolicy:
    return Exponential(0.2, max_s=30.0)


@dataclass(frozen=True)
class Supervision:
    """A strategy; made by one of its constructors.

        class Order(ProcessManager[OrderState]):
            retry = Fixed(10, max_attempts=3)
            supervision = Supervision.quarantine()

    ``resume`` and ``stop`` make the message a dead letter; the others keep it.
    """

    strategy: Strategy = Strategy.RESUME
    max_restarts: int = 5
    within: timedelta = timedelta(minutes=1)
    backoff: RetryPolicy = field(default_factory=_backoff)

    def __post_init__(self) -> None:
        if not isinstance(self.strategy, Strategy):
            raise DefinitionError(
                f"Supervision.strategy is {self.strategy!r}",
                remedy="use a constructor: Supervision.resume(), .restart(), .stop(), "
                ".quarantine() or .escalate()",
            )
        check_number("Supervision.max_restarts", self.max_restarts, 1, 1_000_000, is_whole=True)
        if not isinstance(self.within, timedelta) or self.within <= timedelta(0):
            raise DefinitionError(
                f"Supervision.within is {self.within!r}", remedy="give a timedelta above zero"
            )
        if not isinstance(self.backoff, RetryPolicy):
            raise DefinitionError(
                f"Supervision.backoff is {self.backoff!r}",
                remedy="give a Fixed, Linear or Exponential; its max_attempts does not count",
            )

    @classmethod
    def resume(cls) -> Supervision:
        """The message becomes a dead letter, the instance lives on. The default."""
        return cls(Strategy.RESUME)

    @classmethod
    def restart(
        cls,
        max_restarts: int = 5,
        within: timedelta = timedelta(minutes=1),
        backoff: RetryPolicy | None = None,
    ) -> Supervision:
        """The incarnation is thrown away, and a new one tries the message again after a pause.

        The instance's other mail waits meanwhile, in order (unless the saga ``lets_pass``). After
        ``max_restarts`` of the instance within that time, or of one message at any time, it is
        quarantined. ``backoff`` gives the pauses (default: from 0.2 s, doubling, up to 30 s); its
        ``max_attempts`` does not count. Raises ``DefinitionError``.
        """
        chosen = _backoff() if backoff is None else backoff
        return cls(Strategy.RESTART, max_restarts, within, chosen)

    @classmethod
    def stop(cls) -> Supervision:
        """The instance ends as failed, and the message becomes a dead letter, in one commit."""
        return cls(Strategy.STOP)

    @classmethod
    def quarantine(cls) -> Supervision:
        """The instance is set aside with its messages, until somebody releases it."""
        return cls(Strategy.QUARANTINE)

    @classmethod
    def escalate(cls) -> Supervision:
        """The message is kept, the runtime stops, and its service is told why."""
        return cls(Strategy.ESCALATE)

    def decide(self, restarts: int, lately: int, *, is_final: bool) -> Strategy:
        """What to do now.

        ``restarts`` were made for this message, ``lately`` for its instance ``within`` the last
        time. ``is_final``: the error says that trying again cannot help, so neither can a restart.
        """
        if self.strategy is not Strategy.RESTART:
            return self.strategy
        if is_final:
            return Strategy.RESUME
        spent = max(restarts, lately) >= self.max_restarts
        return Strategy.QUARANTINE if spent else Strategy.RESTART


class Restarts:
    """When instances were restarted lately; ``now_s`` is monotonic time.

    Holds an instance for as long as it can matter; each step costs the same however many there are.
    """

    def __init__(self) -> None:
        self._until_s: OrderedDict[str, list[float]] = OrderedDict()

    def lately(self, key: str, now_s: float) -> int:
        """How many restarts of the instance still count."""
        return sum(until_s > now_s for until_s in self._until_s.get(key, ()))

    def add(self, key: str, within_s: float, now_s: float) -> None:
        """It is restarted now, which counts for so long."""
        still = [until_s for until_s in self._until_s.pop(key, ()) if until_s > now_s]
        self._until_s[key] = [*still, now_s + within_s]
        while self._until_s:
            oldest, moments = next(iter(self._until_s.items()))
            if moments[-1] > now_s:
                return
            del self._until_s[oldest]

    def forget(self, key: str) -> None:
        """It is quarantined: what was before does not count after its release."""
        self._until_s.pop(key, None)

    def __len__(self) -> int:
        return len(self._until_s)
