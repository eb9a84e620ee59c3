"""What a person is told of a run that failed.

Next to read: ``simulate.py``.
"""

from __future__ import annotations

from collections.abc import Sequence

from perdure.testing.simulation.run import Outcome

__all__ = ["SimulationFailed", "failed", "not_repeated"]


class SimulationFailed(AssertionError):
    """A run failed. The message has its seed, the reason, the faults it needs, and its trace.

    ``replay`` is the call that plays it again; ``faults`` are the names of the faults it needs.
    """

    def __init__(
        self, message: str, seed: int, reason: str, faults: Sequence[str], replay: str
    ) -> None:
        super().__init__(message)
        self.seed = seed
        self.reason = reason
        self.faults = list(faults)
        self.replay = replay


def failed(outcome: Outcome, faults_at_first: int, replay: str) -> SimulationFailed:
    """The error for a run, shrunk."""
    needed = "\n".join(f"  {name}" for name in outcome.faults) or "  none: it fails without any"
    message = "\n".join(
        [
            f"seed {outcome.seed}: {outcome.reason}",
            f"faults it needs ({len(outcome.faults)} of {faults_at_first} that struck):",
            needed,
            "what happened:",
            *outcome.trace.lines(),
            "to play it again:",
            f"  {replay}",
        ]
    )
    error = SimulationFailed(message, outcome.seed, outcome.reason, outcome.faults, replay)
    error.__cause__ = outcome.error
    return error


def not_repeated(first: Outcome, again: Outcome, replay: str) -> SimulationFailed:
    """The error for a seed under which two runs differ."""
    one, other = first.trace.lines(is_full=True), again.trace.lines(is_full=True)
    pairs = list(zip([*one, "the end"], [*other, "the end"], strict=False))
    at = next((index for index, (a, b) in enumerate(pairs) if a != b), len(pairs) - 1)
    reason = "the same seed gave another run"
    message = "\n".join(
        [
            f"seed {first.seed}: {reason}. Something in the sagas, workers or the scenario depends"
            " on what the seed does not decide: the system's clock, random or uuid, a module's"
            " variable, the order of a set. The runs part here:",
            *[line for line, _ in pairs[max(0, at - 5) : at]],
            f"first:  {pairs[at][0]}",
            f"second: {pairs[at][1]}",
        ]
    )
    return SimulationFailed(message, first.seed, reason, first.faults, replay)
