"""When a failed attempt is tried again: fixed, linear and exponential delays, with jitter and cap.

    Fixed(30)                                       # five attempts, half a minute apart
    Linear(10, 5, max_s=60)                         # 10 s, 15 s, 20 s, …
    Exponential(0.2, factor=2, max_attempts=None)   # 0.2 s, 0.4 s, 0.8 s, … for ever
    Fixed(0, max_attempts=1)                        # never again

Frozen values and pure arithmetic: whoever asks brings the random number, and keeps the attempts in
the row. Literature: EventCore (the three policies); PURISTA (initial delay, cap, multiplier,
jitter factor). Next to read: ``work.py``.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import KW_ONLY, dataclass

from perdure.errors import DefinitionError

__all__ = ["DELAY_MAX_S", "Exponential", "Fixed", "Linear", "RetryPolicy", "check_number"]

DELAY_MAX_S = 100 * 365.25 * 86_400
"""No delay is longer: a hundred years, so that a moment always fits its column."""


def check_number(
    what: str, value: object, at_least: float, at_most: float, *, is_whole: bool = False
) -> None:
    """Raise ``DefinitionError`` unless the value is a plain number from one bound to the other."""
    kinds = (int,) if is_whole else (int, float)
    # Written so that NaN, which is neither above nor below, is refused.
    if type(value) in kinds and at_least <= value <= at_most:  # type: ignore[operator]
        return
    kind = "a whole number" if is_whole else "a number"
    unit = " (seconds)" if what.endswith("_s") or what.startswith("seconds") else ""
    raise DefinitionError(
        f"{what} is {value!r}", remedy=f"give {kind} from {at_least:.15g} to {at_most:.15g}{unit}"
    )


@dataclass(frozen=True, kw_only=True)
class RetryPolicy(ABC):
    """What all policies have: how often, and how much the delays are spread.

    ``max_attempts`` counts all attempts, the first one too; None: for ever. ``jitter`` is the share
    by which a delay is shortened or lengthened at random, so that what failed together does not
    come back together.

    A policy of one's own says ``plain_delay_s`` and ``longest_s``.
    """

    max_attempts: int | None = 5
    jitter: float = 0.0

    def __post_init__(self) -> None:
        kind = type(self).__name__
        if self.max_attempts is not None:
            check_number(f"{kind}.max_attempts", self.max_attempts, 1, 2**31 - 1, is_whole=True)
        check_number(f"{kind}.jitter", self.jitter, 0, 1)

    def should_retry(self, attempts: int) -> bool:
        """Whether there is another attempt after so many have failed."""
        return self.max_attempts is None or attempts < self.max_attempts

    def next_delay_s(self, attempts: int, random: float = 0.5) -> float:
        """How long the next attempt waits after so many (1, 2, …) have failed.

        Exactly, with ``plain = min(plain_delay_s(attempts), longest_s)``::

            min(plain * (1 + jitter * (2 * random - 1)), longest_s)

        ``random`` is from 0 up to, not including, 1; with 0.5 there is no jitter.
        """
        longest_s = self.longest_s
        plain_s = min(self.plain_delay_s(attempts), longest_s)
        return min(plain_s * (1 + self.jitter * (2 * random - 1)), longest_s)

    def next_delay_ms(self, attempts: int, random: float = 0.5) -> int:
        """The same in whole milliseconds, rounded up, as rows have it."""
        return math.ceil(self.next_delay_s(attempts, random) * 1000)

    @property
    def longest_s(self) -> float:
        """No delay is longer, jitter included."""
        return DELAY_MAX_S

    @abstractmethod
    def plain_delay_s(self, attempts: int) -> float:
        """The delay before jitter and cap."""


@dataclass(frozen=True)
class Fixed(RetryPolicy):
    """Always the same delay: ``delay_s``."""

    delay_s: float

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("Fixed.delay_s", self.delay_s, 0, DELAY_MAX_S)

    def plain_delay_s(self, attempts: int) -> float:
        """``delay_s``."""
        return self.delay_s


@dataclass(frozen=True)
class Linear(RetryPolicy):
    """A delay that grows by the same amount: ``initial_s + increment_s * (attempts - 1)``."""

    initial_s: float
    increment_s: float
    _: KW_ONLY
    max_s: float = 3600.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("Linear.initial_s", self.initial_s, 0, DELAY_MAX_S)
        check_number("Linear.increment_s", self.increment_s, 0, DELAY_MAX_S)
        check_number("Linear.max_s", self.max_s, self.initial_s, DELAY_MAX_S)

    @property
    def longest_s(self) -> float:
        """``max_s``."""
        return self.max_s

    def plain_delay_s(self, attempts: int) -> float:
        """``initial_s + increment_s * (attempts - 1)``."""
        try:
            return self.initial_s + float(self.increment_s) * (attempts - 1)
        except OverflowError:  # more attempts than a float can say
            return self.max_s if self.increment_s else self.initial_s


@dataclass(frozen=True)
class Exponential(RetryPolicy):
    """A delay that grows by a factor: ``initial_s * factor ** (attempts - 1)``."""

    initial_s: float = 1.0
    _: KW_ONLY
    factor: float = 2.0
    max_s: float = 3600.0
    jitter: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        # A millisecond at least: whatever overflows below is then beyond every cap.
        check_number("Exponential.initial_s", self.initial_s, 0.001, DELAY_MAX_S)
        check_number("Exponential.factor", self.factor, 1, 1e6)
        check_number("Exponential.max_s", self.max_s, self.initial_s, DELAY_MAX_S)

    @property
    def longest_s(self) -> float:
        """``max_s``."""
        return self.max_s

    def plain_delay_s(self, attempts: int) -> float:
        """``initial_s * factor ** (attempts - 1)``."""
        try:
            # As floats: a power of whole numbers would grow without end, and take its time.
            grown: float = float(self.factor) ** float(attempts - 1)
            return self.initial_s * grown
        except OverflowError:
            return self.max_s if self.factor > 1 else self.initial_s
