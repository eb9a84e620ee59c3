"""Jobs that cannot go on before time has passed: something about them is tried again then.

Whoever asks whether everything is settled does not wait for them; who stops does not, either, but
has what they wait for tried once more. Next to read: ``dispatcher.py``.
"""

from __future__ import annotations

from collections.abc import Callable

from perdure.runtime.clock import Wake
from perdure.runtime.services import Services
from perdure.runtime.supervised import insist

__all__ = ["Pauses"]


class Pauses:
    """What is tried again after a pause, by the position of the job it is about (0: of none)."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._waiting: dict[int, list[_Pause]] = {}

    def __contains__(self, position: int) -> bool:
        """Whether the job waits for time to pass."""
        return position in self._waiting

    def begin(
        self, position: int, what: str, function: Callable[[], None], failures: int = 1
    ) -> None:
        """Call after the pause before a retry, which grows with the failures."""
        pause = _Pause(self, position, function)
        self._waiting.setdefault(position, []).append(pause)
        pause.wake = self._services.pause(what, pause.go_on, failures)

    def end_all(self) -> None:
        """The runtime stops: do not wait for time any more."""
        for pause in [one for waiting in self._waiting.values() for one in waiting]:
            if pause.wake is not None:
                pause.wake.cancel()
            insist(
                self._services.clock, self._services.settings.retry_pause_s, "a retry", pause.go_on
            )()

    def over(self, pause: _Pause) -> None:
        """What was waited for has been tried."""
        waiting = self._waiting[pause.position]
        waiting.remove(pause)
        if not waiting:
            del self._waiting[pause.position]


class _Pause:
    """One of them."""

    __slots__ = ("_function", "_is_over", "_pauses", "position", "wake")

    def __init__(self, pauses: Pauses, position: int, function: Callable[[], None]) -> None:
        self._pauses = pauses
        self._function = function
        self._is_over = False
        self.position = position
        self.wake: Wake | None = None

    def go_on(self) -> None:
        """Try it. If that raises, two may insist on another try: the clock's, and the ending's."""
        if self._is_over:
            return
        self._function()
        if not self._is_over:  # it may have ended all pauses itself
            self._is_over = True
            self._pauses.over(self)
