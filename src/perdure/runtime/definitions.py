"""What a runtime makes of the sagas it is given: their definitions, and the codec for their types.

Finds here, before anything runs, what cannot run together. Next to read: ``routing.py``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, TypeAlias

from perdure.codec import Codec, Limits, TypeRegistry
from perdure.core.family import Cancel, ChildEnded, ToInstance
from perdure.core.intervention import Intervention
from perdure.core.saga import Definition
from perdure.core.step_events import Resume
from perdure.errors import CodecError, DefinitionError, DuplicateSaga
from perdure.member import Member
from perdure.messages import DeadlineReached, TimeoutReached
from perdure.process_manager import ProcessManager, define

__all__ = ["Saga", "codec_of", "definitions_of", "types_of"]

_OURS = (DeadlineReached, TimeoutReached, Cancel, ChildEnded, Resume, ToInstance, Intervention)

Saga: TypeAlias = type[ProcessManager[Any]] | Member
"""A process manager class, or an object that is a saga."""


def definitions_of(sagas: Iterable[Saga]) -> dict[str, Definition]:
    """The definitions by name. Raises ``DefinitionError``, ``DuplicateSaga``."""
    found: dict[str, Definition] = {}
    for saga in sagas:
        definition = _definition(saga)
        if definition.name in found:
            raise DuplicateSaga(
                f"two sagas are named {definition.name!r}",
                saga=definition.name,
                remedy="give one of them another `name`",
            )
        found[definition.name] = definition
    return found


def _definition(saga: Any) -> Definition:
    if isinstance(saga, type):
        if issubclass(saga, ProcessManager):
            return define(saga)
    elif isinstance(saga, Member):
        return saga.definition()
    raise DefinitionError(
        f"{saga!r} is no saga",
        remedy="give classes that inherit from ProcessManager, ordered sagas, workflows, schedules "
        "and work queues",
    )


def types_of(definitions: Iterable[Definition], registry: TypeRegistry) -> TypeRegistry:
    """The registry with the types of these sagas, and our own. Raises ``DuplicateMessageType``."""
    for ours in _OURS:
        registry.add(ours)
    for definition in definitions:
        registry.add(definition.state_type)
        for kind in definition.types:
            registry.add(kind)
        for interest in definition.interests:
            if isinstance(interest, str):
                registry.add_external(interest)
    return registry


def codec_of(
    definitions: Collection[Definition], messages: Iterable[type], bytes_max: int
) -> Codec:
    """The codec for the types of these sagas, and further messages.

    Raises ``DuplicateMessageType``, and ``DefinitionError`` for a state that cannot be stored.
    """
    registry = types_of(definitions, TypeRegistry(messages))
    codec = Codec(registry, Limits(bytes_max=bytes_max))
    for definition in definitions:
        try:
            codec.encode(definition.initial_state())
        except CodecError as error:
            raise DefinitionError(
                f"the initial state cannot be stored: {error}",
                saga=definition.name,
                remedy="mend the fields of the state class",
            ) from error
    return codec
