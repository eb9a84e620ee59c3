"""From a message to deliveries: which sagas want it, which instances, and its bytes.

Everything that can be wrong with a message is found here, at its sender: unknown types, values that
cannot be stored, a missing correlation field. Next to read: ``instances/supervisor.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from perdure.codec import Codec
from perdure.core.correlation import (
    Continue,
    Ignore,
    Start,
    Stop,
    Verdict,
    VerdictKind,
    encode_id,
    instance_key,
    split_key,
)
from perdure.core.described import shown
from perdure.core.saga import Definition, is_immutable
from perdure.errors import CorrelationFailed, PerdureError, UnknownMessageType, UnknownSaga
from perdure.messages import Message, Metadata, kind_of
from perdure.queue import RESERVED
from perdure.runtime.delivery import Delivery

__all__ = ["Routing", "is_taken", "no_handler"]

_KINDS = {
    Start: VerdictKind.START,
    Continue: VerdictKind.CONTINUE,
    Stop: VerdictKind.STOP,
}

_DECLARE = "declare one with @starts, @continues or @stops"

TEXT_CHARS_MAX = 500
HEADERS_MAX = 100


def is_taken(definition: Definition, message: Message) -> bool:
    """Whether a handler is declared for it, as whoever accepted it has found in its own code."""
    return kind_of(message.content) in definition.interests or message.type.startswith(RESERVED)


def no_handler(
    definition: Definition, correlation_id: str, message: Message, remedy: str
) -> UnknownMessageType:
    """The error for a message that is not taken."""
    return UnknownMessageType(
        f"the saga has no handler for {message.type}",
        saga=definition.name,
        correlation_id=correlation_id,
        remedy=remedy,
    )


class Routing:
    """The sagas of a runtime by name and by what interests them. Free of loops and threads."""

    def __init__(self, definitions: Mapping[str, Definition]) -> None:
        self.definitions = definitions
        self._frozen: dict[type, bool] = {}
        self._interested: dict[type | str, list[Definition]] = {}
        for definition in definitions.values():
            for interest in definition.interests:
                self._interested.setdefault(interest, []).append(definition)

    def _is_frozen(self, kind: type) -> bool:
        """The sender cannot change such a message after it was sent."""
        found = self._frozen.get(kind)
        if found is None:
            found = self._frozen[kind] = is_immutable(kind)
        return found

    def is_interesting(self, kind: type | str) -> bool:
        """Some saga takes messages of this class, or of this name."""
        return kind in self._interested

    def definition(self, saga: Any) -> Definition:
        """The definition of a saga class or name. Raises ``UnknownSaga``."""
        name = saga if isinstance(saga, str) else getattr(saga, "name", None)
        found = self.definitions.get(name) if isinstance(name, str) else None
        if found is None:
            raise UnknownSaga(
                f"this runtime does not run {name or saga!r}",
                remedy=f"it runs {', '.join(sorted(self.definitions)) or 'none'}; add it there",
            )
        return found

    def message(
        self,
        codec: Codec,
        content: Any,
        message_id: str | None,
        new_id: Callable[[], str],
        now_ms: int,
        correlation_id: str | None = None,
        causation_id: str | None = None,
        headers: Mapping[str, str] | None = None,
        id_is: str = "message_id",
    ) -> Message:
        """The message for a content: an object of a message class, or a mapping with a type name.

        Without ``message_id`` a mapping's "id" counts, else a new one is made. ``id_is`` is what
        the sender calls it.

        Raises ``EncodeError`` or ``LimitExceeded`` for what cannot be stored, and
        ``UnknownMessageType`` for a mapping of a type nobody knows.
        """
        if isinstance(content, Mapping):
            if message_id is None:
                message_id = content.get("id")
            content = codec.from_mapping(content)
        message_id = new_id() if message_id is None else _checked_id(id_is, message_id)
        name, version, body = codec.encode(content)
        return Message(
            content if self._is_frozen(type(content)) else codec.decode(name, version, body),
            name,
            version,
            body,
            message_id,
            now_ms,
            None if correlation_id is None else _checked_text("correlation_id", correlation_id),
            None if causation_id is None else _checked_text("causation_id", causation_id),
            _checked_headers(headers) if headers else None,
        )

    def deliveries(self, message: Message) -> list[Delivery]:
        """One delivery per instance that the message is for, as the sagas correlate it."""
        found: list[Delivery] = []
        for definition in self._interested.get(kind_of(message.content), ()):
            for verdict in self.verdicts(definition, message):
                kind, id_ = _KINDS[type(verdict)], _encoded(definition, verdict)
                key = instance_key(definition.name, id_)
                found.append(Delivery(definition, key, message, kind, verdict.strict))
        return found

    def delivery_to(
        self, definition: Definition, correlation_id: str, message: Message
    ) -> Delivery:
        """The delivery to one instance by its id: the saga's verdict counts, its id does not.

        Raises ``UnknownMessageType`` if the saga does not handle such messages.
        """
        interest = kind_of(message.content)
        if definition not in self._interested.get(interest, ()):
            raise no_handler(definition, correlation_id, message, _DECLARE)
        key = instance_key(definition.name, correlation_id)
        if definition.kinds is not None:
            kind, strict = definition.kinds[interest]
            return Delivery(definition, key, message, kind, strict)
        kind, strict = VerdictKind.CONTINUE, False
        for verdict in self._addressed(definition, message, correlation_id):
            kind, strict = _KINDS[type(verdict)], verdict.strict
        return Delivery(definition, key, message, kind, strict)

    def delivery_to_child(self, key: str, message: Message) -> Delivery:
        """The delivery that starts an instance which must not exist yet.

        Raises ``UnknownSaga``, ``UnknownMessageType``, ``CorrelationFailed`` if it starts none.
        """
        saga, correlation_id = split_key(key)
        delivery = self.delivery_to(self.definition(saga), correlation_id, message)
        if delivery.kind is not VerdictKind.START:
            raise CorrelationFailed(
                f"{message.type} starts no instance",
                saga=saga,
                correlation_id=correlation_id,
                remedy="start the child with a message that @starts it",
            )
        delivery.strict = True
        return delivery

    def delivery_of_ours(self, key: str, message: Message) -> Delivery:
        """The delivery of what the runtime itself tells an instance. Raises ``UnknownSaga``."""
        definition = self.definition(split_key(key)[0])
        return Delivery(definition, key, message, VerdictKind.CONTINUE)

    def _addressed(
        self, definition: Definition, message: Message, correlation_id: str
    ) -> Iterable[Verdict]:
        try:
            verdicts = self.verdicts(definition, message)
        except CorrelationFailed:  # the sender said which instance; the message need not
            return ()
        same = [v for v in verdicts if _encoded(definition, v) == correlation_id]
        return same[:1] or verdicts[:1]

    def verdicts(self, definition: Definition, message: Message) -> list[Verdict]:
        metadata = Metadata(
            message.message_id,
            message.sent_at_ms,
            message.correlation_id,
            message.causation_id,
            message.headers,
        )
        try:
            answer = definition.correlate(message.content, metadata)
        except PerdureError as error:
            raise error.about(definition.name) from error.__cause__
        except Exception as error:
            raise CorrelationFailed(
                f"correlating {message.type} raised {type(error).__name__}: {error}",
                saga=definition.name,
                remedy="mend the saga's correlate, or the message",
            ) from error
        if answer is Ignore:
            return []
        verdicts: list[Any] = answer if isinstance(answer, list) else [answer]
        for verdict in verdicts:
            if type(verdict) not in _KINDS:
                raise CorrelationFailed(
                    f"correlating {message.type} gave {verdict!r}",
                    saga=definition.name,
                    remedy="answer Start(id), Continue(id), Stop(id), a list of them, or Ignore",
                )
        return verdicts


def _encoded(definition: Definition, verdict: Verdict) -> str:
    try:
        return encode_id(verdict.id)
    except CorrelationFailed as error:
        error.about(definition.name)
        raise


def _checked_id(what: str, message_id: object) -> str:
    text = _checked_text(what, message_id)
    if not text or text.startswith("perdure."):  # the runtime's own: those of deadlines
        raise CorrelationFailed(
            f"{text!r} is no {what}",
            remedy="give a text that does not begin with 'perdure.', or none",
        )
    return text


def _checked_headers(headers: Mapping[str, str]) -> dict[str, str]:
    if len(headers) > HEADERS_MAX:
        raise CorrelationFailed(
            f"{len(headers)} headers, the limit is {HEADERS_MAX}",
            remedy="put what they say into the message",
        )
    if any(str(name).startswith("perdure.") for name in headers):
        raise CorrelationFailed(
            "headers that begin with 'perdure.' are the runtime's own", remedy="use another name"
        )
    return {
        _checked_text("header name", name): _checked_text(f"header {name!r}", value)
        for name, value in headers.items()
    }


def _checked_text(what: str, text: object) -> str:
    """What is stored beside the content: short, valid Unicode."""
    if type(text) is not str or len(text) > TEXT_CHARS_MAX:
        raise CorrelationFailed(
            f"{what} {shown(text)} is no text of up to {TEXT_CHARS_MAX} characters",
            remedy=f"give a short text, such as {what}='17'",
        )
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise CorrelationFailed(
                f"{what} {text!r} is not valid Unicode", remedy="clean the text first"
            ) from None
    return text
