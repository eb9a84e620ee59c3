"""What a saga that has steps says to whoever wants to repair an instance of it. Pure.

Ordered sagas and workflows have one; a process manager has none, since its commands are all that
is known of it. Next to read: ``course_repairs.py``, ``workflow_repairs.py``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from perdure.core.intervention import Intervention
    from perdure.effects import Effect
    from perdure.messages import Metadata

__all__ = ["Meant", "Repairs"]


class Meant(NamedTuple):
    """What a repair comes to: in words, and the steps whose jobs and dead letters go with it.

    ``content`` is what the repair is recorded with.
    """

    text: str
    steps: Collection[str]
    content: Any = None


class Repairs(Protocol):
    """How the steps of a saga are repaired. Whoever is asked in vain raises ``NotRepairable``.

    ``is_over``: the instance has ended.
    """

    def steps(self, state: Any) -> Mapping[str, str]:
        """The steps, and how each stands."""
        ...

    def step_of(self, command: Any) -> str:
        """The step that a command performs, or undoes; "" for any other."""
        ...

    def input_of(self, command: Any) -> Any:
        """What a restart gives to the step of this command again; None: what it asks for anew."""
        ...

    def skip(self, state: Any, step: str, is_over: bool) -> Meant:
        """To go on without a step."""
        ...

    def mark_done(self, state: Any, step: str, result: Any, is_over: bool) -> Meant:
        """Somebody has done it by hand; ``content`` is the event that says so.

        Raises ``InvalidResult``.
        """
        ...

    def compensate(self, state: Any) -> Meant:
        """To undo what is done."""
        ...

    def restart_from(self, state: Any, step: str, is_over: bool) -> Meant:
        """To forget what this step and those behind it have done, and go on there."""
        ...

    def edited(self, command: Any, given: Any) -> Any:
        """The command with another input."""
        ...

    def effects(
        self, state: Any, intervention: Intervention, metadata: Metadata, is_over: bool
    ) -> Iterable[Effect]:
        """What follows; the state is the one before it. ``is_over``: the instance had ended."""
        ...
