"""What is checked when a saga class becomes a definition: its name, state, callbacks, policies.

Reads class attributes; knows no declarations. Next to read: ``process_manager.py``, which asks.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import typing
from datetime import timedelta
from typing import Any

from perdure.core.retry import RetryPolicy
from perdure.core.saga import MissingPolicy
from perdure.core.supervision import Supervision
from perdure.errors import DefinitionError, NotAPlainFunction

__all__ = [
    "check_initial",
    "check_name",
    "check_name_text",
    "check_plain",
    "lets_pass_of",
    "missing_of",
    "policy_of",
    "state_class_of",
    "supervision_of",
    "timeout_of",
]

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,199}")
_PLAIN = ("interested_in", "correlate", "accepts", "apply", "handle", "compensate", "initial_state")


def timeout_of(saga: Any) -> timedelta | None:
    """``timeout`` may be an attribute or, as in the literature, a callback."""
    declared: Any = saga.timeout
    found = declared() if callable(declared) else declared
    if found is not None and (not isinstance(found, timedelta) or found <= timedelta(0)):
        raise DefinitionError(
            f"timeout is {found!r}", saga=saga.name, remedy="give a timedelta above zero"
        )
    return found


def policy_of(saga: type[Any], name: str) -> RetryPolicy | None:
    """A retry policy among the class attributes."""
    found: RetryPolicy | None = getattr(saga, name)
    if found is not None and not isinstance(found, RetryPolicy):
        raise DefinitionError(
            f"{name} is {found!r}",
            saga=saga.name,
            remedy="give a Fixed, Linear or Exponential, or None",
        )
    if name == "timeout_retry" and found is not None and saga.timeout is None:
        raise DefinitionError(
            "timeout_retry without a timeout", saga=saga.name, remedy="give a timeout, too"
        )
    return found


def missing_of(saga: type[Any]) -> MissingPolicy:
    """What becomes of messages for an instance that does not exist."""
    found: MissingPolicy = saga.on_missing
    if isinstance(found, MissingPolicy):
        return found
    raise DefinitionError(
        f"on_missing is {found!r}",
        saga=saga.name,
        remedy="give Park(for_s), IgnoreMissing(), StartMissing() or ReplyMissing(value), "
        "each with its parentheses",
    )


def lets_pass_of(saga: type[Any]) -> bool:
    """Whether others may pass a message that awaits its retry."""
    if type(saga.lets_pass) is not bool:
        raise DefinitionError(
            f"lets_pass is {saga.lets_pass!r}", saga=saga.name, remedy="give True or False"
        )
    return saga.lets_pass


def supervision_of(saga: type[Any]) -> Supervision:
    """What becomes of an instance whose turn has failed for good."""
    found: Supervision = saga.supervision
    if isinstance(found, Supervision):
        return found
    raise DefinitionError(
        f"supervision is {found!r}",
        saga=saga.name,
        remedy="give Supervision.resume(), .restart(), .stop(), .quarantine() or .escalate(), "
        "with its parentheses",
    )


def check_name(saga: type[Any]) -> None:
    """The name can be stored and be part of a key."""
    check_name_text(saga.name, saga.__name__)


def check_name_text(name: object, saga: str) -> None:
    """The same of a saga that is no class."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise DefinitionError(
            f"{name!r} is no name for a saga",
            saga=saga,
            remedy="use up to 200 letters, digits, dots, dashes and underscores",
        )


def check_plain(saga: type[Any]) -> None:
    """No coroutine is among the callbacks."""
    for name in _PLAIN:
        function = getattr(saga, name)
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            raise NotAPlainFunction(
                f"{saga.__name__}.{name} is a coroutine",
                saga=saga.name,
                remedy="make it a plain function; what must wait belongs into a worker",
            )


def state_class_of(saga: type) -> type:
    """The class in ``ProcessManager[…]``."""
    for base in saga.__mro__:
        for generic in vars(base).get("__orig_bases__", ()):
            arguments = typing.get_args(generic)
            if arguments and isinstance(arguments[0], type):
                return arguments[0]
    raise DefinitionError(
        f"{saga.__name__} does not say what its state is",
        saga=saga.__name__,
        remedy="inherit from ProcessManager[YourState], YourState being a dataclass",
    )


def check_initial(saga: type[Any], one: Any, state_class: type) -> None:
    """There is a state to begin with."""
    if not dataclasses.is_dataclass(state_class):
        raise DefinitionError(
            f"state class {state_class.__name__} is no dataclass",
            saga=saga.name,
            remedy="decorate it with @dataclass",
        )
    try:
        state = one.initial_state()
    except Exception as error:
        raise DefinitionError(
            f"there is no initial {state_class.__name__}: {error}",
            saga=saga.name,
            remedy="give every field a default, or write initial_state()",
        ) from error
    if not isinstance(state, state_class):
        raise DefinitionError(
            f"initial_state() gave {state!r}",
            saga=saga.name,
            remedy=f"return a {state_class.__name__}",
        )
