"""What a turn does about parents and children: starting, cancelling, telling the end.

The carrying out of some effects, apart from ``draft.py`` for their length. Knows no runtime.
Next to read: ``family.py``; ``runtime/jobs/saga_mail.py``, which delivers what is put out here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perdure.core.commit import OutboxKind, Status
from perdure.core.correlation import encode_id, instance_key, split_key
from perdure.core.family import Cancel, ChildEnded, ToInstance, started
from perdure.core.outgoing import SAGAS, put_out
from perdure.effects import CancelChild, StartChild
from perdure.errors import InvalidEffect
from perdure.messages import type_info_of

if TYPE_CHECKING:
    from perdure.core.draft import Draft

__all__ = ["NAME_MAX", "cancel_child", "close_family", "start_child"]

NAME_MAX = 200


def start_child(draft: Draft, effect: StartChild) -> None:
    name, family = effect.name, draft.family
    if type(name) is not str or not 0 < len(name) <= NAME_MAX:
        raise InvalidEffect(f"{name!r} is no name for a child", remedy="use a short text")
    if family is not None and name in family.children:
        raise InvalidEffect(
            f"child {name!r} is open already", remedy="give the second one another name"
        )
    saga = effect.saga if isinstance(effect.saga, str) else getattr(effect.saga, "name", None)
    if not isinstance(saga, str):
        raise InvalidEffect(
            f"child {name!r} is of {effect.saga!r}, which is no saga",
            remedy="give a saga, or its name",
        )
    id_ = f"{draft.instance.correlation_id}/{name}" if effect.id is None else effect.id
    key = instance_key(saga, encode_id(id_))
    _direct(draft, ToInstance(key, effect.message, name))
    draft.family = started(family, name, key)


def cancel_child(draft: Draft, effect: CancelChild) -> None:
    family = draft.family
    key = None if family is None else family.children.get(effect.name)
    if key is not None:  # else it has ended meanwhile
        _direct(draft, ToInstance(key, Cancel(str(effect.reason))))


def close_family(draft: Draft, result: Any) -> None:
    """The instance ends: its parent is told; if it has failed, its open children are cancelled."""
    family = draft.family
    if family is None:
        return
    if draft.status is Status.FAILED:
        for key in family.children.values():
            _direct(draft, ToInstance(key, Cancel(f"{draft.instance.key} has failed")))
    if family.parent:
        _direct(draft, ToInstance(family.parent, _end(draft, family.called, result)))


def _end(draft: Draft, called: str, result: Any) -> ChildEnded:
    saga, instance_id = split_key(draft.instance.key)
    is_message = type_info_of(type(result)) is not None
    return ChildEnded(
        called,
        saga,
        instance_id,
        draft.status.value,
        result if is_message else None,
        None if is_message else result,
        draft.detail if isinstance(draft.detail, str) else "",
    )


def _direct(draft: Draft, content: ToInstance) -> None:
    put_out(draft, OutboxKind.COMMAND, SAGAS, draft.encoder.message(content))
